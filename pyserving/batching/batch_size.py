"""How many rows to join, learned from how many are done in a second."""

from pyserving.batching.ladder import Ladder

MAX_ROWS = 64
"""Larger batches are not formed: what a row costs has long stopped falling, and all wait for the last."""

_BATCHES = 8
"""So many are one sample. One more before them is left out: it may have begun when another size was tried."""
_FEW_BATCHES, _SECONDS = 3, 0.1
"""Fewer are enough where they take so long."""


class BatchSize:
    """For one kind of request, the number of rows by which most are done under the present load.

    A small one may be better than a large one though its rows cost more: of a crowd of 32, 16 can be computed while
    the answers to the other 16 are sent and their next requests read.
    """

    def __init__(self) -> None:
        self._ladder = Ladder(MAX_ROWS)
        self.rows = self._ladder.number
        """A batch that has so many is full."""
        self._batches = self._rows = 0
        self._seconds = 0.0

    def add(self, rows: int, seconds: float) -> None:
        """A batch of ``rows`` is done, ``seconds`` after the one before it, or after its own start if none ran then."""
        if self._batches:
            self._rows += rows
            self._seconds += seconds
        self._batches += 1
        if self._batches > (_FEW_BATCHES if self._seconds > _SECONDS else _BATCHES):
            self._ladder.add(self._seconds / self._rows)
            self.rows = self._ladder.number
            self._batches = self._rows = 0
            self._seconds = 0.0
