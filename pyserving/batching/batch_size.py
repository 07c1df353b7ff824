"""How many rows to join, learned from what the batches before cost."""

import math

from pyserving.batching.cost import CostEstimate

MAX_ROWS = 64
"""Larger batches are not formed: what a row costs has long stopped falling, and all wait for the last."""

_WORTHWHILE = 0.9
"""A larger batch has to lower the cost of a row at least to this, for it makes the first wait for the last."""
_EXPLORE = 32
"""One in so many batches may be twice as large as what seems best: costs change with the load."""

_OVERHEAD_SECONDS = 150e-6
"""What a batch costs besides its run: the hop to a thread and back, joining and splitting."""

_SIZES = [1 << exponent for exponent in range(MAX_ROWS.bit_length())]


class BatchSize:
    """The best number of rows for one kind of request. Read on the event loop; samples come from threads."""

    def __init__(self) -> None:
        self.rows = MAX_ROWS
        """Joining more than this does not pay."""
        self._costs = [CostEstimate() for _ in _SIZES]
        self._batches = 0

    def next_limit(self) -> int:
        """How many rows the next batch may have."""
        self._batches += 1
        return min(2 * self.rows, MAX_ROWS) if self._batches % _EXPLORE == 0 else self.rows

    def add(self, rows: int, seconds: float) -> None:
        """``rows`` were run in ``seconds``, a share of them where other batches of the kind ran meanwhile."""
        self._costs[min(rows, MAX_ROWS).bit_length() - 1].add((seconds + _OVERHEAD_SECONDS) / rows)
        best, choice = math.inf, 0
        for index, cost in enumerate(self._costs):
            if cost.settled and cost.seconds < best * _WORTHWHILE:
                best, choice = cost.seconds, index
        # As long as the largest batch so far is the best, larger ones are tried.
        larger_known = any(cost.settled for cost in self._costs[choice + 1 :])
        self.rows = _SIZES[choice] if larger_known else MAX_ROWS
