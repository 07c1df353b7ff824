"""Time, as the manager needs it: what o'clock it is, and to be called later."""

import heapq
import logging
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

_log = logging.getLogger("pyserving.core")


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """The call will not come, unless it is being made at this moment."""
        ...


class Clock(Protocol):
    """Tests put a clock here that goes when they tell it to."""

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Calls once, ``delay`` seconds from now, on a thread of the clock's own."""
        ...


class SystemClock:
    """The machine's clock. One daemon thread makes all calls; it lives while there are calls to come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[tuple[float, int, _Call]] = []
        self._numbers = count()
        self._thread: threading.Thread | None = None

    def time(self) -> float:
        return time.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        call = _Call(callback)
        with self._changed:
            # The number keeps calls of one moment in order, and the heap from comparing calls.
            heapq.heappush(self._calls, (time.monotonic() + delay, next(self._numbers), call))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pyserving-clock", daemon=True)
                self._thread.start()
        return call

    def _run(self) -> None:
        while call := self._next():
            call.make()

    def _next(self) -> "_Call | None":
        with self._changed:
            while self._calls:
                due, _, call = self._calls[0]
                left = due - time.monotonic()
                if left <= 0 or call.cancelled:
                    heapq.heappop(self._calls)
                    return call
                self._changed.wait(left)
            self._thread = None
            return None


class _Call:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    @property
    def cancelled(self) -> bool:
        return self._callback is None

    def cancel(self) -> None:
        self._callback = None

    def make(self) -> None:
        callback = self._callback
        if callback is not None:
            try:
                callback()
            except Exception:
                _log.exception("A timed call failed")
