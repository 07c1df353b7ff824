"""Rounds: each measures everything once, so that what else the machine does falls on all alike."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios, each taken within its round: two rounds may differ by far more than their ratios do."""
    return statistics.median(a / b for a, b in zip(values, others, strict=True))


def interleaved(runs: Mapping[str, Callable[[], T]], rounds: int) -> Iterator[tuple[str, T]]:
    """Runs all, ``rounds`` times; every other round backwards, so that nobody always follows the same one."""
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            yield name, runs[name]()
