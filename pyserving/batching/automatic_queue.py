"""Batching without waiting: what arrives while engine calls run forms the next batch. On the event loop."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from pyserving.batching.batch_size import BatchSize
from pyserving.batching.priority import Priority
from pyserving.batching.request import Part, Request
from pyserving.core.handle import ServableHandle

MAX_RUNNING = max(2, os.cpu_count() or 1)
"""More batches do not run at the same time: an engine call may well use several cores by itself."""


class AutomaticQueue:
    """Requests that can be joined with each other. A request never waits unless others of its kind are running."""

    def __init__(self, size: BatchSize, start: Callable[[list[Part], Callable[[], None]], None]) -> None:
        """``start`` has a batch run, and sees to it that the function it is given is called after that."""
        self._size = size
        self._start = start
        self._waiting: deque[Part] = deque()
        self._rows = 0
        self._running = 0
        self._present = self._most_present = 0
        """Rows that somebody waits for, now and at most since a batch was done: each client's once, for it sends its
        next request when it has its answer."""
        self._starting = False
        self._last = 0.0
        """When the last batch was done, or the first of several that run was begun."""

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._running and not self._waiting

    def add(self, request: Request, handle: ServableHandle) -> None:
        (part,) = request.split([request.rows], handle)
        if self._waiting and request.priority < self._waiting[-1].request.priority:
            self._waiting.insert(self._place(request.priority), part)
        else:
            self._waiting.append(part)
        self._rows += request.rows
        self._present += request.rows
        self._most_present = max(self._most_present, self._present)
        self._start_soon()

    def discard(self, request: Request) -> None:
        """Nobody waits for ``request`` any more: if it is still here, it leaves. To be called once for each."""
        self._present -= request.rows
        for part in self._waiting:
            if part.request is request:
                self._waiting.remove(part)
                self._rows -= part.rows
                part.handle.release()
                break

    def _place(self, priority: Priority) -> int:
        """Behind what goes first or was here before."""
        return next(index for index, part in enumerate(self._waiting) if part.request.priority > priority)

    def _start_soon(self) -> None:
        """At once; of a crowd, when the event loop has read what has come by now: there may be more of it."""
        if not self._size.crowded:
            self._start_batches()
        elif self._waiting and not self._starting:
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start_batches)

    def _start_batches(self) -> None:
        self._starting = False
        # While one runs, a batch that could still grow waits; a full one does not.
        while self._waiting and self._running < (MAX_RUNNING if self._rows >= self._size.rows else 1):
            parts = [self._waiting.popleft()]
            rows = parts[0].rows
            while self._waiting and rows + self._waiting[0].rows <= self._size.rows:
                parts.append(self._waiting.popleft())
                rows += parts[-1].rows
            self._rows -= rows
            self._size.crowded = len(parts) > 1
            if not self._running:
                self._last = time.perf_counter()
            self._running += 1
            self._start(parts, partial(self._release, rows))

    def _release(self, rows: int) -> None:
        """A batch of so many rows has been run."""
        now = time.perf_counter()
        self._running -= 1
        self._size.add(rows, now - self._last, max(rows, self._most_present), self._running)
        self._most_present = self._present
        self._last = now
        self._start_soon()
