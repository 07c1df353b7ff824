"""What an engine call costs, learned from the calls before it."""

import math

from pyserving.platforms.model import INLINE_SECONDS

_STAYS_INLINE = 2.0
"""Times as much has one to take that ran inline. While a version loads all runs are slower, half a millisecond now and
then; and a hop to a thread is slower still, so that what leaves for the threads then comes back late."""

_SETTLING = 5
"""The first runs of a graph are many times slower than all others: of so many, only the quickest counts."""


class CostEstimate:
    """A running estimate of a duration, near the 70th percentile of what is seen.

    It moves by factors, not by the size of a sample: a single stray (the machine was busy) changes little,
    a lasting change gets through within some ten runs. A run many times as long as expected counts double, so that
    one in five of them is enough to show. Not locked: a lost update does no harm.
    """

    __slots__ = ("_limit", "_seen", "inline", "seconds")

    def __init__(self, inline_seconds: float = INLINE_SECONDS) -> None:
        self.inline = False
        """Whether the run may hold up the event loop: it takes less than ``inline_seconds``; once it does, less than
        twice that."""
        self._limit = inline_seconds
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
        self.inline = self.seconds < (self._limit * _STAYS_INLINE if self.inline else self._limit)
