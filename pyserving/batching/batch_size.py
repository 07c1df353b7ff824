"""How many rows to join, learned from how many are done in a second."""

from pyserving.batching.ladder import Ladder

MAX_ROWS = 64
"""Larger batches are not formed: what a row costs has long stopped falling, and all wait for the last."""

_BATCHES, _SECONDS = 2, 0.05
"""One sample is at least so many, and takes at least so long. It is of whole rounds of those that run side by side, for
they end together."""


class BatchSize:
    """For one kind of request, the number of rows by which most are done under the present load.

    That is learned for each load apart, by the number of rows that wait and run at a time, in powers of two: a lone
    client tells nothing of what is best for a crowd. It begins with a quarter of them, so that two batches can be
    computed side by side while answers are sent and requests read; larger and smaller batches are tried beside. Quick
    models find their size in a second; slow ones, which take longer to learn of, are at their best with few rows.
    """

    def __init__(self) -> None:
        self._ladders = [Ladder(1 << load) for load in range(MAX_ROWS.bit_length())]
        self._load = 0
        self.rows = 1
        """A batch that has so many is full."""
        self.crowded = False
        """The last batch had more than one request in it. Queues come and go, even between two batches of a crowd."""
        self._at_once = 1
        self._left_out = 0
        """Batches that are not of this sample: they began when another size may have been tried."""
        self._highest = 0
        """The highest load that was seen."""
        self._batches = self._rows = 0
        self._seconds = 0.0

    def add(self, rows: int, seconds: float, present: int, running: int) -> None:
        """A batch of ``rows`` is done, ``seconds`` after the one before it, or after its own start if none ran then.

        ``present``: the rows that waited or ran at the same time, at most. ``running``: other batches that run.
        """
        load = min((present - 1).bit_length(), len(self._ladders) - 1)
        if load > self._load:
            self._begin(load, running)
            return
        self._highest = max(self._highest, load)
        if self._left_out:
            self._left_out -= 1
            return
        self._batches += 1
        self._rows += rows
        self._seconds += seconds
        if self._batches >= _BATCHES and self._seconds >= _SECONDS and not self._batches % self._at_once:
            if self._highest == self._load:
                self._ladders[self._load].add(self._seconds / self._rows)
            self._begin(self._highest, running)

    def _begin(self, load: int, running: int) -> None:
        """A new sample."""
        self._load = load
        self.rows = self._ladders[load].number
        self._at_once = running + 1
        self._left_out = running
        self._highest = 0
        self._batches = self._rows = 0
        self._seconds = 0.0
