"""Remembers the last state of every version, and waits for the states that somebody needs."""

import threading
from collections.abc import Iterable, Sequence

from pyserving.core.errors import Code, ServingError
from pyserving.core.events import EventBus
from pyserving.core.servable import ServableId, ServableRequest
from pyserving.core.state import ServableState, State


class ServableStateMonitor:
    """The last state of every version ever seen, those that ended included, as GetModelStatus shows them."""

    def __init__(self, bus: EventBus) -> None:
        self._changed = threading.Condition()
        self._events = 0
        self._streams: dict[str, dict[int, tuple[int, ServableState]]] = {}
        """By name and version: the number of the event, and the state."""
        bus.subscribe(self._on_event)

    def names(self) -> list[str]:
        """All streams ever seen, in alphabetical order."""
        with self._changed:
            return sorted(self._streams)

    def states(self, name: str) -> list[ServableState]:
        """Of all versions of a stream, the highest version first; empty for a stream never seen."""
        with self._changed:
            stream = self._streams.get(name, {})
            return [stream[version][1] for version in sorted(stream, reverse=True)]

    def state(self, servable_id: ServableId) -> ServableState | None:
        """None for a version never seen."""
        with self._changed:
            seen = self._streams.get(servable_id.name, {}).get(servable_id.version)
            return seen[1] if seen else None

    def mark(self) -> int:
        """A point in the order of events, for ``wait_until_available``."""
        with self._changed:
            return self._events

    def wait_until_available(
        self, requests: Iterable[ServableRequest], *, since: int = 0, timeout: float | None = None
    ) -> list[ServableState]:
        """Waits until every request has come to AVAILABLE or END, or is dormant; returns the states in their order.

        The latest of a stream is its highest version that is AVAILABLE or ended with an error; versions that
        ended without one (unloaded, or given up for another) count only when nothing else is left. An END from
        before ``since``, a ``mark()``, is history and never counts: take the mark before the change to wait for.

        Raises DEADLINE_EXCEEDED after ``timeout`` seconds; with None it waits for ever, as for a stream of which no
        version is ever found.
        """
        wanted = list(requests)
        with self._changed:
            if not self._changed.wait_for(lambda: all(self._reached(r, since) for r in wanted), timeout):
                missing = ", ".join(str(request) for request in wanted if not self._reached(request, since))
                raise ServingError(
                    Code.DEADLINE_EXCEEDED, f"Did not become available within {timeout:g} seconds: {missing}"
                )
            return [state for request in wanted if (state := self._reached(request, since))]

    def _on_event(self, event: ServableState) -> None:
        with self._changed:
            self._events += 1
            self._streams.setdefault(event.id.name, {})[event.id.version] = (self._events, event)
            self._changed.notify_all()

    def _reached(self, request: ServableRequest, since: int) -> ServableState | None:
        stream = self._streams.get(request.name, {})
        versions = sorted(stream, reverse=True) if request.version is None else [request.version]
        fresh = [
            state
            for number, state in (stream[version] for version in versions if version in stream)
            if state.state is not State.END or number > since
        ]
        reached = (state for state in fresh if state.state is State.AVAILABLE or state.error or state.dormant)
        all_ended = bool(fresh) and all(state.state is State.END for state in fresh)
        return next(reached, fresh[0] if all_ended else None)


def require_available(states: Sequence[ServableState], what: str = "servable(s)") -> None:
    """Raises UNKNOWN with the text of TensorFlow Serving where one of the states is not AVAILABLE.

    ``what`` is what did not become available: it says ``servable(s)`` at the start and ``model(s)`` after a reload.
    """
    missing = sorted(
        (state for state in states if state.state is not State.AVAILABLE and not state.dormant),
        key=lambda state: state.id,
    )
    if missing:
        whys = (f" due to error: {state.error}" if state.error else "" for state in missing)
        listed = "".join(f"{{{state.id}{why}}}, " for state, why in zip(missing, whys, strict=True))
        raise ServingError(Code.UNKNOWN, f"{len(missing)} {what} did not become available: {{{listed}}}")
