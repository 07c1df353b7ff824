"""A request that waits for an engine call, and the parts of it that go into batches."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyserving.batching.priority import Priority
from pyserving.batching.rows import Inputs, slice_rows
from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle
from pyserving.monitoring.observation import Run
from pyserving.platforms.model import Array

Outcome = list[Array] | BaseException


class Request:
    """Used on the event loop; another thread may read it, and call ``done`` and ``claim``."""

    __slots__ = (
        *("_claims", "_missing", "_results", "cost", "created", "deadline", "future", "inputs", "must_run"),
        *("observed", "priority", "rows", "waits"),
    )

    def __init__(
        self,
        future: "asyncio.Future[list[Array]]",
        inputs: Inputs,
        rows: int,
        deadline: float | None,
        priority: Priority = Priority.NORMAL,
        observed: Run | None = None,
    ) -> None:
        self.future = future
        self.created = time.monotonic()
        self.inputs = inputs
        self.rows = rows
        self.deadline = deadline
        """On the clock of ``time.monotonic``."""
        self.priority = priority
        self.observed = observed
        """What is written down of it; None: nobody looks."""
        self.waits = False
        """Its lane counts it as one that waits; this and the next two are the lane's."""
        self.cost = 0.0
        self.must_run = False
        self._claims = [None]
        self._results: list[list[Array]] = [[]]
        self._missing = 1

    def split(self, sizes: Sequence[int], handle: ServableHandle) -> list["Part"]:
        """Parts of so many rows each. Each has its own share of ``handle``, to be released with it."""
        if len(sizes) == 1:
            return [Part(self, 0, self.inputs, self.rows, handle.share())]
        self._missing = len(sizes)
        self._results = [[] for _ in sizes]
        parts = []
        start = 0
        for index, size in enumerate(sizes):
            rows = slice_rows(self.inputs, start, start + size)
            parts.append(Part(self, index, rows, size, handle.share()))
            start += size
        return parts

    @property
    def num_parts(self) -> int:
        return len(self._results)

    @property
    def done(self) -> bool:
        """Answered, or nobody waits any more."""
        return self.future.done()

    def claim(self) -> bool:
        """True for the first caller: for who runs the whole request after all."""
        try:
            self._claims.pop()  # atomic
        except IndexError:
            return False
        return True

    def settle(self, outcome: Outcome) -> None:
        """The answer to the whole request."""
        if self.done:
            return
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    def settle_part(self, index: int, outcome: Outcome) -> None:
        """The answer to one part; the first error is the error of the whole."""
        if len(self._results) == 1 or isinstance(outcome, BaseException):
            self.settle(outcome)
            return
        self._results[index] = outcome
        self._missing -= 1
        if not self._missing and not self.done:
            self.settle([np.concatenate(arrays) for arrays in zip(*self._results, strict=True)])


def waits(parts: "Sequence[Part]") -> list[float]:
    """How long, in microseconds, the request of each has waited until now."""
    now = time.monotonic()
    return [(now - part.request.created) * 1e6 for part in parts]


@dataclass(slots=True, eq=False)
class Part:
    """Rows of a request that are run together: all of them, unless large requests are split."""

    request: Request
    index: int
    inputs: Inputs
    rows: int
    handle: ServableHandle

    def settle(self, outcome: Outcome) -> None:
        self.request.settle_part(self.index, outcome)


def deadline_exceeded() -> ServingError:
    return ServingError(Code.DEADLINE_EXCEEDED, "the deadline of the request has passed")
