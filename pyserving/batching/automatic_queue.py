"""Batching without waiting: what arrives while engine calls run forms the next batch. On the event loop."""

from collections import deque
from collections.abc import Callable

from pyserving.batching.batch_size import BatchSize
from pyserving.batching.request import Part, Request
from pyserving.core.handle import ServableHandle

_CALLS = 2
"""While so many calls run, a batch that could still grow waits: one runs as the answers of the other are sent."""


class AutomaticQueue:
    """Requests that can be joined with each other. A request never waits unless others of its kind are running."""

    def __init__(self, size: BatchSize, max_running: int, start: Callable[[list[Part], int], None]) -> None:
        """``start`` has a batch run beside how many others, and sees to it that ``release`` is called after that."""
        self._size = size
        self._max_running = max_running
        self._start = start
        self._waiting: deque[Part] = deque()
        self._rows = 0
        self._running = 0

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._running and not self._waiting

    def add(self, request: Request, handle: ServableHandle) -> None:
        self._waiting.extend(request.split([request.rows], handle))
        self._rows += request.rows
        self._start_batches()

    def release(self) -> None:
        """To be called when a batch has been run."""
        self._running -= 1
        self._start_batches()

    def discard(self, request: Request) -> None:
        """Nobody waits for ``request`` any more: if it is still here, it leaves."""
        for part in self._waiting:
            if part.request is request:
                self._waiting.remove(part)
                self._rows -= part.rows
                part.handle.release()
                break

    def _start_batches(self) -> None:
        while self._waiting:
            full = self._rows >= self._size.rows
            if self._running >= (self._max_running if full else _CALLS):
                break
            limit = self._size.next_limit()
            parts = [self._waiting.popleft()]
            rows = parts[0].rows
            while self._waiting and rows + self._waiting[0].rows <= limit:
                parts.append(self._waiting.popleft())
                rows += parts[-1].rows
            self._rows -= rows
            self._running += 1
            self._start(parts, self._running)
