"""Requests that wait to be joined, and when the next batch of them is run. All of it happens on the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pyserving.batching.parameters import BatchingParameters
from pyserving.batching.request import Part, Request
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.handle import ServableHandle


class Slots:
    """How many batches may run at the same time. Queues that share them take turns."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._ready: deque[BatchQueue] = deque()

    def request(self, queue: "BatchQueue") -> None:
        """Has the next batch of ``queue`` run as soon as there is a slot and it is the queue's turn."""
        if queue.ready and queue not in self._ready:
            self._ready.append(queue)
            self._start()

    def release(self) -> None:
        """A batch has been run."""
        self._free += 1
        self._start()

    def _start(self) -> None:
        while self._free and self._ready:
            queue = self._ready.popleft()
            if queue.ready:  # what was there may have been discarded
                self._free -= 1
                queue.start_next()
            if queue.ready:
                self._ready.append(queue)


@dataclass(slots=True, eq=False)
class _Batch:
    parts: list[Part] = field(default_factory=list)
    rows: int = 0
    due: bool = False
    """It has waited long enough for more."""
    timer: asyncio.TimerHandle | None = None


class BatchQueue:
    """Requests that can be joined with each other. The last batch is open: it takes what comes."""

    def __init__(self, parameters: BatchingParameters, slots: Slots, start: Callable[[list[Part]], None]) -> None:
        """``start`` has a batch run, and sees to it that ``release`` is called after that."""
        self._start = start
        self._slots = slots
        self._parameters = parameters
        self._max_rows = parameters.max_execution_batch_size
        self._timeout = parameters.batch_timeout_micros / 1e6
        self._batches: deque[_Batch] = deque([_Batch()])
        self._running = 0

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._running and not self._batches[0].parts

    @property
    def ready(self) -> bool:
        """Whether the next batch need not wait for more."""
        first = self._batches[0]
        return len(self._batches) > 1 or first.due or first.rows >= self._max_rows

    def add(self, request: Request, handle: ServableHandle) -> None:
        """Raises UNAVAILABLE if too much waits already, INVALID_ARGUMENT for more rows than a request may have."""
        self._check_capacity(request.rows)
        for part in request.split(self._part_sizes(request.rows), handle):
            batch = self._batches[-1]
            if batch.parts and batch.rows + part.rows > self._max_rows:
                batch = _Batch()
                self._batches.append(batch)
            if not batch.parts:
                if self._timeout:
                    batch.timer = asyncio.get_running_loop().call_later(self._timeout, self._expire, batch)
                else:
                    batch.due = True
            batch.parts.append(part)
            batch.rows += part.rows
        self._slots.request(self)

    def start_next(self) -> None:
        """The next batch leaves the queue and is run."""
        batch = self._batches.popleft()
        if not self._batches:
            self._batches.append(_Batch())
        if batch.timer is not None:
            batch.timer.cancel()
        self._running += 1
        self._start(batch.parts)

    def release(self) -> None:
        """To be called when a batch has been run."""
        self._running -= 1
        self._slots.release()

    def discard(self, request: Request) -> None:
        """Nobody waits for ``request`` any more: what of it is still here leaves."""
        for batch in list(self._batches):
            gone = [part for part in batch.parts if part.request is request]
            if not gone:
                continue
            batch.parts = [part for part in batch.parts if part.request is not request]
            for part in gone:
                batch.rows -= part.rows
                part.handle.release()
            if not batch.parts:
                if batch.timer is not None:
                    batch.timer.cancel()
                self._batches.remove(batch)
        if not self._batches:
            self._batches.append(_Batch())

    def _expire(self, batch: _Batch) -> None:
        batch.due = True
        self._slots.request(self)

    def _part_sizes(self, rows: int) -> list[int]:
        """Rows of each part: what is left of the open batch is filled first."""
        room = self._max_rows - self._batches[-1].rows
        if rows <= room or not self._parameters.enable_large_batch_splitting:
            return [rows]
        sizes = [room] if room else []
        while (left := rows - sum(sizes)) > 0:
            sizes.append(min(left, self._max_rows))
        return sizes

    def _check_capacity(self, rows: int) -> None:
        # Rules and texts are the real server's.
        parameters = self._parameters
        if rows > parameters.max_batch_size:
            raise invalid_argument(
                f"Task size {rows} is larger than maximum input batch size {parameters.max_batch_size}"
            )
        num_batches, limit = len(self._batches), parameters.max_enqueued_batches
        full = "The batch scheduling queue to which this task was submitted is full; "
        open_rows = self._batches[-1].rows
        if parameters.enable_large_batch_splitting:
            capacity = (limit - num_batches) * self._max_rows + self._max_rows - open_rows
            if rows > capacity:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"{full}task size is {rows} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={num_batches}, max_enqueued_batches={limit}, "
                    f"open_batch_size={open_rows}, max_execution_batch_size={self._max_rows})",
                )
        elif open_rows + rows > parameters.max_batch_size and num_batches >= limit:
            raise ServingError(
                Code.UNAVAILABLE,
                f"{full}currently {num_batches} batches enqueued and max_enqueued_batches is {limit}",
            )
