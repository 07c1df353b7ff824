"""What an engine call costs, learned from the calls before it."""

import math

_SETTLING = 5
"""The first runs of a graph are many times slower than all others: of so many, only the quickest counts."""


class CostEstimate:
    """A running estimate of a duration, near the 70th percentile of what is seen.

    It moves by factors, not by the size of a sample: a single stray (the machine was busy) changes little,
    a lasting change gets through within some ten runs. A run many times as long as expected counts double, so that
    one in five of them is enough to show. Not locked: a lost update does no harm.
    """

    __slots__ = ("_seen", "seconds")

    def __init__(self) -> None:
        self.seconds = math.inf
        """The estimate; infinite as long as nothing was seen."""
        self._seen = 0

    @property
    def settled(self) -> bool:
        """Whether enough was seen to rely on it."""
        return self._seen >= _SETTLING

    def add(self, seconds: float) -> None:
        if self._seen < _SETTLING:
            self._seen += 1
            self.seconds = min(self.seconds, seconds)
        elif seconds > self.seconds:
            self.seconds *= 2.0 if seconds > 8 * self.seconds else 1.25
        else:
            self.seconds *= 0.9
