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

    That is learned for each load apart, by the number of rows that wait and run at a time, in powers of two: a lone
    client tells nothing of what is best for a crowd. A small batch may be better than a large one though its rows cost
    more: of a crowd of 32, 16 can be computed while the answers to the other 16 are sent and their next requests read.
    """

    def __init__(self) -> None:
        self._ladders = [Ladder(1 << load) for load in range(MAX_ROWS.bit_length())]
        self._load = 0
        self.rows = 1
        """A batch that has so many is full."""
        self._batches = self._rows = 0
        self._most = 1
        self._seconds = 0.0

    def add(self, rows: int, seconds: float, present: int) -> None:
        """A batch of ``rows`` is done, ``seconds`` after the one before it, or after its own start if none ran then.

        ``present``: its rows, and those that waited or ran at the time.
        """
        if self._batches:
            self._rows += rows
            self._seconds += seconds
            self._most = max(self._most, present)
        self._batches += 1
        if self._batches > (_FEW_BATCHES if self._seconds > _SECONDS else _BATCHES):
            load = min((self._most - 1).bit_length(), len(self._ladders) - 1)
            if load == self._load:
                self._ladders[load].add(self._seconds / self._rows)
            self._load = load
            self.rows = self._ladders[load].number
            self._batches = self._rows = 0
            self._most = 1
            self._seconds = 0.0
