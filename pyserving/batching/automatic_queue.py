"""Batching without waiting: what arrives while engine calls run forms the next batch. On the event loop."""

import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from pyserving.batching.ladder import Ladder
from pyserving.batching.request import Part, Request
from pyserving.core.handle import ServableHandle

MAX_ROWS = 64
"""Larger batches are not formed: what a row costs has long stopped falling, and all wait for the last."""
MAX_RUNNING = os.cpu_count() or 1
"""More batches do not run at the same time: an engine call may well use all cores by itself."""


class BatchLimits:
    """What was learned of one kind of request: how many rows to join, and how many batches to run at a time."""

    def __init__(self) -> None:
        self.rows = Ladder(MAX_ROWS)
        self.running = Ladder(MAX_RUNNING)


class AutomaticQueue:
    """Requests that can be joined with each other. A request never waits unless others of its kind are running."""

    def __init__(self, limits: BatchLimits, start: Callable[[list[Part], Callable[[], None]], None]) -> None:
        """``start`` has a batch run, and sees to it that the function it is given is called after that."""
        self._limits = limits
        self._start = start
        self._waiting: deque[Part] = deque()
        self._running = 0
        self._shared_seconds = 0.0
        """A clock that goes slower the more batches run: what passes while one runs is that one's share of the time."""
        self._last = time.perf_counter()

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._running and not self._waiting

    def add(self, request: Request, handle: ServableHandle) -> None:
        self._waiting.extend(request.split([request.rows], handle))
        self._start_batches()

    def discard(self, request: Request) -> None:
        """Nobody waits for ``request`` any more: if it is still here, it leaves."""
        for part in self._waiting:
            if part.request is request:
                self._waiting.remove(part)
                part.handle.release()
                break

    def _start_batches(self) -> None:
        while self._waiting and self._running < self._limits.running.number:
            limit = self._limits.rows.number
            parts = [self._waiting.popleft()]
            rows = parts[0].rows
            while self._waiting and rows + self._waiting[0].rows <= limit:
                parts.append(self._waiting.popleft())
                rows += parts[-1].rows
            now = self._advance_clock()
            self._running += 1
            self._start(parts, partial(self._release, rows, now, self._shared_seconds))

    def _release(self, rows: int, began: float, began_shared: float) -> None:
        """A batch of so many rows has been run, from ``began`` on; ``began_shared``, by the shared clock."""
        seconds = self._advance_clock() - began
        self._running -= 1
        share = self._shared_seconds - began_shared
        self._limits.rows.add(rows, share / rows)
        self._limits.running.add(round(seconds / share) if share else 1, share / rows)
        self._start_batches()

    def _advance_clock(self) -> float:
        now = time.perf_counter()
        self._shared_seconds += (now - self._last) / (self._running or 1)
        self._last = now
        return now
