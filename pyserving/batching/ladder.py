"""Finds by trying which of 1, 2, 4, ... costs least."""

from collections import deque

_WORTHWHILE = 0.95
"""A larger number has to lower the cost at least to this."""
_SAMPLES = 4
"""So many of the last are looked at,"""
_SETTLED = 2
"""and at least so many are needed."""
_TRIES = 2
"""So many samples in a row are taken of another number than the choice, now and then: costs change with the load."""
_HOPELESS = 1.3
"""Where a number costs so many times what the choice does, a trial of it ends, and none beyond it is tried."""
_PAUSE, _LONGEST_PAUSE = 32, 512
"""Samples between two trials; twice as many after each that found nothing better, four times if it was hopeless."""


class Ladder:
    """The powers of two from 1 up to a limit.

    It begins with 1, climbs until that makes the cost much higher, and stays where it was lowest.
    """

    def __init__(self, most: int) -> None:
        self._rungs = [_Cost() for _ in range(most.bit_length())]
        self._choice = 0
        self._step = 1
        """Which way the next trial goes: up or down."""
        self._pause = _PAUSE
        self._left = _PAUSE
        """Samples until the next trial begins; below zero while there is one."""

    @property
    def number(self) -> int:
        """The one that costs least; or another, that is to be tried."""
        return 1 << self._rung

    def add(self, cost: float) -> None:
        """What ``number`` was seen to cost."""
        hopeless = self._left < 0 and cost > self._rungs[self._choice].cost * _HOPELESS
        self._rungs[self._rung].add(cost)
        choice = self._best()
        self._left -= 1
        if choice != self._choice:
            self._choice = choice
            self._pause = max(_PAUSE, self._pause // 2)
            self._left = self._pause
        elif self._left < -_TRIES or hopeless:
            self._step = -self._step
            self._pause = min((4 if hopeless else 2) * self._pause, _LONGEST_PAUSE)
            self._left = self._pause

    @property
    def _rung(self) -> int:
        if self._left < 0:
            return self._beside(self._step)
        # One step that gains nothing is no reason not to take the next.
        unknown = next((index for index, rung in enumerate(self._rungs) if not rung.settled), 0)
        if unknown and self._rungs[unknown - 1].cost < self._rungs[self._choice].cost * _HOPELESS:
            return unknown
        return self._choice

    def _best(self) -> int:
        """The choice, unless another is clearly better: two that cost about the same do not take turns."""
        current = self._rungs[self._choice]
        best, choice = current.cost if current.settled else float("inf"), self._choice
        for index, rung in enumerate(self._rungs):
            if rung.settled and rung.cost < best and (index < self._choice or rung.cost < current.cost * _WORTHWHILE):
                best, choice = rung.cost, index
        return choice

    def _beside(self, step: int) -> int:
        return max(0, min(self._choice + step, len(self._rungs) - 1))


class _Cost:
    """The second lowest of the last samples, as all that disturbs a run makes it longer."""

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
