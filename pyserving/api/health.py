"""Whether this server lives, and whether it should get traffic."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Set

from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State

LOOK_SECONDS = 1.0
"""Between two looks at models whose processes may be gone, while somebody waits for a change."""


class Health:
    """Ready means: every configured model has a version for the requests that name none, and the server is not about
    to stop.

    Used on one event loop.
    """

    def __init__(
        self,
        monitor: ServableStateMonitor,
        configured: Callable[[], Iterable[str]],
        pinned: Callable[[str], int | None] = lambda _: None,
        is_down: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """``configured`` tells the names of the models that there should be now.

        ``pinned``: the version that requests to a model get which name none, where that need not be the highest.
        ``is_down``: whether what a model's default version runs on has been gone for long.
        """
        self._monitor = monitor
        self._configured = configured
        self._pinned = pinned
        self._is_down = is_down
        self._changed = asyncio.Event()
        self._waiting = 0
        self._down: Set[str] = frozenset()
        self._timer: asyncio.TimerHandle | None = None
        self.draining = False

    @property
    def ready(self) -> bool:
        return not self.draining and not self.missing()

    def missing(self) -> Mapping[str, str]:
        """The configured models that cannot answer, and why. The reasons tell no paths and no error texts: anybody
        may read them."""
        return {name: reason for name in self._configured() if (reason := self._objection(name))}

    def models(self) -> list[str]:
        """All configured models, available or not."""
        return list(self._configured())

    def available(self, name: str) -> bool:
        """Whether a model can answer, and the server takes requests."""
        return not self.draining and not self._objection(name)

    def drain(self) -> None:
        """From now on nothing is ready."""
        self.draining = True
        self.notify()

    def notify(self) -> None:
        """Something may be different now."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Waits for the next ``notify``, or until what a model runs on is seen to have gone or come back."""
        changed = self._changed
        self._waiting += 1
        if self._timer is None:
            self._look()
        try:
            await changed.wait()
        finally:
            self._waiting -= 1

    def _look(self) -> None:
        """Nobody tells that something has been gone for long: it is looked for, as long as somebody wants to know."""
        if not self._waiting:
            self._timer = None
            return
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        down = frozenset(filter(self._is_down, self._configured()))
        if down != self._down:
            self._down = down
            self.notify()

    def _objection(self, name: str) -> str:
        pinned = self._pinned(name)
        states = self._monitor.states(name)
        if pinned is not None:
            state = self._monitor.state(ServableId(name, pinned))
            if state is None or not _can_answer(state):
                return f"its default version {pinned} is {'not found' if state is None else state.state.name}"
        elif not any(_can_answer(state) for state in states):
            newest = next((state for state in states if state.state is not State.END or state.error), None)
            if newest is None:
                return "no version is found"
            return f"version {newest.id.version} {'has failed' if newest.error else f'is {newest.state.name}'}"
        return "its process is down" if self._is_down(name) else ""


def _can_answer(state: ServableState) -> bool:
    """Where the version is dormant, the next request has it loaded."""
    return state.state is State.AVAILABLE or state.dormant
