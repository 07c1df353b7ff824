"""Drives a coroutine without a Task: most requests never wait, and then cost no trip through the loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class EagerTask(Generic[T]):
    """Runs ``coroutine`` at once, on the caller's stack, up to its first real wait; then whenever that is over.

    ``on_done(result, error)`` is called once: before the constructor returns if nothing had to be awaited,
    else from the event loop. ``error`` is what escaped, CancelledError included. There is no
    ``asyncio.current_task()`` inside, so ``asyncio.timeout`` and its like do not work there.
    """

    __slots__ = ("_cancelled", "_coroutine", "_on_done", "_waits_for")

    def __init__(
        self, coroutine: Coroutine[Any, Any, T], on_done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        self._coroutine = coroutine
        self._on_done = on_done
        self._waits_for: asyncio.Future[Any] | None = None
        self._cancelled = False  # too late for the future, which was done
        self._step()

    @property
    def done(self) -> bool:
        return self._waits_for is None

    def cancel(self) -> None:
        """Raises CancelledError inside the coroutine, where it waits. Nothing happens once it is done."""
        if self._waits_for is not None and not self._waits_for.cancel():
            self._cancelled = True

    def _step(self, _: object = None) -> None:
        try:
            if self._cancelled:
                self._cancelled = False
                future = self._coroutine.throw(asyncio.CancelledError())
            else:
                future = self._coroutine.send(None)
        except StopIteration as stop:
            self._waits_for = None
            self._on_done(stop.value, None)
        except (Exception, asyncio.CancelledError) as error:
            self._waits_for = None
            self._on_done(None, error)
        else:
            if future is None:  # a bare yield, as asyncio.sleep(0) does
                future = asyncio.get_running_loop().create_future()
                future.set_result(None)
            else:
                future._asyncio_future_blocking = False  # the sign, due to the loop, that we took it over
            self._waits_for = future
            future.add_done_callback(self._step)
