"""Finds out whether requests may be joined that nobody said may be joined.

A signature that looks as if it computed row by row may still mix them: x - mean(x), a sort, a normalisation over
the batch. So the first batches are run twice: each request by itself, which is what clients get, and joined. Only
when these agree are requests joined; and now and then that is looked at again.
"""

import logging
from collections.abc import Callable, Sequence
from itertools import chain

import ml_dtypes
import numpy as np

from pyserving.batching.rows import Inputs, can_split, count_rows, join, split
from pyserving.core.errors import ServingError
from pyserving.platforms.model import Array

logger = logging.getLogger("pyserving.batching")

_CHECKS = 3
"""Batches that must agree before any is joined."""
_TRIES = 16
"""After so many batches that said nothing (they failed when joined, or their rows were all the same) it is given up."""
_AGAIN = 1000
"""One in so many later batches is checked too."""

NO_ROWS = "its outputs do not have a row for each row of the inputs"

Run = Callable[[Inputs], list[Array]]


class RowCheck:
    """What is known of a signature: used by several threads at once, a lost update does no harm."""

    def __init__(self, label: str, *, trusted: bool = False) -> None:
        """``trusted``: the model's author has promised that rows are independent."""
        self.refused = False
        """Requests must not be joined."""
        self._label = label
        self._trusted = trusted
        self._agreed = 0
        self._tried = 0
        self._batches = 0

    def due(self) -> bool:
        """Whether the next batch is to be run both ways, and reported with ``compare``."""
        if self._trusted:
            return False
        if self._agreed < _CHECKS:
            return True
        self._batches += 1
        return self._batches % _AGAIN == 0

    def refuse(self, reason: str) -> None:
        if not self.refused:
            self.refused = True
            logger.info("Requests of %s are not joined into batches: %s", self._label, reason)

    def compare(self, run: Run, inputs: Sequence[Inputs], alone: Sequence[Sequence[Array]]) -> None:
        """Runs the requests joined, and compares with what they gave ``alone``."""
        self._tried += 1
        blank = _blank(inputs[0])
        # A blank row at either end stands out where all requests are the same, and in any order of values.
        for around in ([blank], []):
            parts = [*around, *inputs, *around]
            if not _vary(parts):
                continue
            sizes = [count_rows(part) or 0 for part in parts]
            rows = sum(sizes)
            try:
                joined = run(join(parts, rows))
            except ServingError:
                continue
            if not can_split(joined, rows):
                self.refuse(NO_ROWS)
                return
            answers = split(joined, sizes, rows)[len(around) : len(parts) - len(around)]
            if not all(map(_same, chain(*answers), chain(*alone))):
                self.refuse("an answer depends on what else is in the batch")
                return
            self._agreed += 1
            return
        if self._agreed < _CHECKS and self._tried >= _TRIES:
            self.refuse("whether that changes answers could not be found out")


def _blank(inputs: Inputs) -> dict[str, Array]:
    return {
        name: np.full((1, *array.shape[1:]), b"", object) if array.dtype == object else np.zeros_like(array[:1])
        for name, array in inputs.items()
    }


def _vary(parts: Sequence[Inputs]) -> bool:
    """Whether not all parts begin with the same row."""
    first = parts[0]
    return any(not np.array_equal(part[name][:1], first[name][:1]) for part in parts[1:] for name in first)


def _same(joined: Array, alone: Array) -> bool:
    """Whether two results are equal but for rounding, which may differ with the size of a batch."""
    if joined.shape != alone.shape or joined.dtype != alone.dtype:
        return False
    try:
        tolerance = float(ml_dtypes.finfo(alone.dtype).eps) ** 0.5  # type: ignore[no-untyped-call]
    except ValueError:
        return np.array_equal(joined, alone)
    number = np.complex128 if np.iscomplexobj(alone) else np.float64
    expected, found = alone.astype(number), joined.astype(number)
    finite = np.abs(expected[np.isfinite(expected)])
    return np.allclose(found, expected, rtol=tolerance, atol=tolerance * finite.max(initial=0), equal_nan=True)
