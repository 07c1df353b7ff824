"""Finds by trying which of 1, 2, 4, ... costs least: rows in a batch, batches at the same time."""

from collections import deque

_WORTHWHILE = 0.97
"""Each larger number has to lower the cost at least to this: larger batches make the first wait for the last."""
_SAMPLES = 16
"""So many of the last are looked at,"""
_SETTLED = 3
"""and at least so many are needed."""
_TRIES = 4
"""So many batches in a row have another number than the choice, now and then: costs change with the load."""
_PAUSE, _LONGEST_PAUSE = 64, 4096
"""Batches between two such trials; twice as many after each that found nothing better, for it may have been dear."""


class Ladder:
    """The powers of two from 1 up to a limit.

    It begins with 1, and climbs for as long as that lowers the cost. Used on the event loop.
    """

    def __init__(self, most: int) -> None:
        self._rungs = [_Cost() for _ in range(most.bit_length())]
        self._choice = 0
        self._step = 1
        """Which way the next trial goes: up or down."""
        self._pause = _PAUSE
        self._left = _PAUSE
        """Batches until the next trial begins; below zero while there is one."""

    @property
    def choice(self) -> int:
        """The largest number that pays, or that is to be tried as nothing is known of it."""
        unknown = self._rungs[self._choice].settled and not self._rungs[self._beside(1)].settled
        return 1 << (self._beside(1) if unknown else self._choice)

    def next(self) -> int:
        """The number for the next batch."""
        self._left -= 1
        if self._left >= 0:
            return self.choice
        tried = self._beside(self._step)
        if self._left <= -_TRIES:
            self._step = -self._step
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._left = self._pause
        return 1 << tried

    def add(self, number: int, cost: float) -> None:
        """With ``number``, a row has cost so much."""
        self._rungs[min(number.bit_length(), len(self._rungs)) - 1].add(cost)
        best, choice = float("inf"), 0
        for index, rung in enumerate(self._rungs):
            if rung.settled and rung.cost < best * _WORTHWHILE:
                best, choice = rung.cost, index
        if choice != self._choice:
            self._choice = choice
            self._pause = self._left = _PAUSE

    def _beside(self, step: int) -> int:
        return max(0, min(self._choice + step, len(self._rungs) - 1))


class _Cost:
    """The lower quartile of the last samples, as all that disturbs a run makes it longer."""

    __slots__ = ("_samples", "cost")

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_SAMPLES)
        self.cost = float("inf")

    @property
    def settled(self) -> bool:
        return len(self._samples) >= _SETTLED

    def add(self, sample: float) -> None:
        self._samples.append(sample)
        self.cost = sorted(self._samples)[len(self._samples) // 4]
