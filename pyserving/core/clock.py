"""Time, as the manager needs it: what o'clock it is, and to be called later."""

import heapq
import logging
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

_log = logging.getLogger("pyserving.core")


class Clock(Protocol):
    """Tests put a clock here that goes when they tell it to."""

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        """Calls once, ``delay`` seconds from now, on a thread of the clock's own. It cannot be called off."""
        ...


class SystemClock:
    """The machine's clock. One daemon thread makes all calls; it lives while there are calls to come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._thread: threading.Thread | None = None

    def time(self) -> float:
        return time.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        with self._changed:
            # The number keeps calls of one moment in order, and the heap from comparing calls.
            heapq.heappush(self._calls, (time.monotonic() + delay, next(self._numbers), callback))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pyserving-clock", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while callback := self._next():
            try:
                callback()
            except Exception:
                _log.exception("A timed call failed")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while self._calls:
                left = self._calls[0][0] - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._calls)[2]
                self._changed.wait(left)
            self._thread = None
            return None
