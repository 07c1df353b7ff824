"""Finds by trying which of 1, 2, 4, ... costs least."""

from collections import deque

_WORTHWHILE = 0.97
"""Another number has to lower the cost at least to this."""
_NEEDED = 3
"""A trial goes on until so many comparisons agree: the best of five."""
_HOPELESS = 2.0
"""Where another number costs so many times what the choice does, one comparison is enough."""
_STEPS = (1, -1, 2, -2)
"""How far up or down a trial goes, the next where one found nothing better. One step that gains nothing is no reason
not to try the next."""
_PAUSE, _LONGEST_PAUSE = 4, 512
"""Samples between two trials; twice as many after each that found nothing better."""


class Ladder:
    """The powers of two from 1 up to a limit.

    It begins with a quarter of the limit. Now and then another is tried: by samples that take turns with those of the
    choice, each compared with the one right before it, for what else a machine does changes all costs from one second
    to the next.
    """

    def __init__(self, most: int) -> None:
        self._top = most.bit_length() - 1
        self._choice = max(0, self._top - 2)
        self._steps = deque(_STEPS)
        self._pause = self._left = _PAUSE
        """Samples until the next trial begins."""
        self._before: float | None = None
        """In a trial, what the choice was last seen to cost; None before that: the first runs of a size are slow."""
        self._tries = False
        self._won = self._lost = 0

    @property
    def number(self) -> int:
        """The one that costs least; or another, that is to be tried."""
        return 1 << (self._other if self._tries else self._choice)

    def add(self, cost: float) -> None:
        """What ``number`` was seen to cost."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._begin()
        elif not self._tries:
            self._before = cost
            self._tries = True
        else:
            if self._before is not None:
                self._compare(cost, self._before)
            self._tries = False

    @property
    def _other(self) -> int:
        return self._choice + self._steps[0]

    def _begin(self) -> None:
        for _ in _STEPS:
            if 0 <= self._other <= self._top:
                self._tries = True
                self._before = None
                self._won = self._lost = 0
                return
            self._steps.rotate(-1)
        self._left = self._pause

    def _compare(self, cost: float, before: float) -> None:
        if cost < before * _WORTHWHILE:
            self._won += 1
        elif cost > before * _HOPELESS:
            self._lost = _NEEDED
        else:
            self._lost += 1
        if self._won == _NEEDED:
            self._choice = self._other
            self._pause = self._left = _PAUSE
        elif self._lost == _NEEDED:
            self._steps.rotate(-1)
            self._pause = self._left = min(2 * self._pause, _LONGEST_PAUSE)
