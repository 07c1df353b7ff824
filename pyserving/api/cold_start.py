"""Requests for models that are not loaded: they have them loaded, and wait for that."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from pyserving.core.errors import Code, ServingError


class Wakes(Protocol):
    """The part of a Manager that is needed here."""

    def is_unloaded(self, name: str) -> bool: ...

    def wake(self, name: str, version: int | None = None) -> "Future[None] | None":
        """Raises ServingError."""
        ...


class ColdStart:
    """Waits for loads, for the requests of one event loop."""

    def __init__(self, manager: Wakes, waited: Callable[[str, float], None] = lambda _name, _seconds: None) -> None:
        """``waited`` is told how long each request waited for which model."""
        self._manager = manager
        self._waited = waited
        self._asking: dict[tuple[str, int | None], asyncio.Future[Future[None] | None]] = {}
        """A question to the manager is asked once for all requests that have it."""

    def is_unloaded(self, name: str) -> bool:
        """Whether it is worth while to ``wait`` for this model."""
        return self._manager.is_unloaded(name)

    async def wait(self, name: str, version: int | None, deadline: float | None) -> None:
        """Returns when it should be looked again for a version of the model, None for the default one.

        ``deadline`` is on the clock of ``time.monotonic``; None: none. Raises DEADLINE_EXCEEDED; UNAVAILABLE or
        RESOURCE_EXHAUSTED where the model could not be loaded.
        """
        start = time.monotonic()
        asking = self._ask(name, version)
        try:
            step = await asyncio.wait_for(asyncio.shield(asking), _left(deadline))
            if step is not None:
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(step)), _left(deadline))
        except TimeoutError:
            raise ServingError(
                Code.DEADLINE_EXCEEDED, f"Model {name} is being loaded, which was not done by the deadline"
            ) from None
        finally:
            self._waited(name, time.monotonic() - start)

    def _ask(self, name: str, version: int | None) -> "asyncio.Future[Future[None] | None]":
        key = (name, version)
        asking = self._asking.get(key)
        if asking is None:
            # On a thread: who wakes a model starts threads, and tells listeners.
            asking = self._asking[key] = asyncio.ensure_future(asyncio.to_thread(self._manager.wake, name, version))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return asking


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
