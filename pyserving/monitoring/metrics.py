"""Counters and histograms, each with a child for every set of label values.

Children are plain numbers without a lock: each is to be changed by one thread, or under a lock of the caller's.
They are created once and can be kept, so that recording a value costs an addition or two.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order of their names."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram saw: how many values in each bucket, the last one being without a limit, and their sum."""

    counts: Sequence[int]
    sum: float


@dataclass(frozen=True, slots=True)
class Family:
    """All values of one metric at one moment: plain data, so that those of several processes can be added up."""

    name: str
    kind: str
    """``counter``, ``gauge`` or ``histogram``, as Prometheus has it."""
    label_names: Sequence[str]
    values: Mapping[Labels, float | Distribution]
    bounds: Sequence[float] = ()
    """The upper limits, included, of a histogram's buckets but the last."""


class CounterChild:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        self.value += amount

    def collect(self) -> float:
        return self.value


class HistogramChild:
    """How many of the values seen are at most so large."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum: float = 0

    def observe(self, *values: float) -> None:
        counts, bounds = self._counts, self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self._sum += sum(values)

    def collect(self) -> Distribution:
        return Distribution(tuple(self._counts), self._sum)


class _Child(Protocol):
    def collect(self) -> float | Distribution: ...


C = TypeVar("C", bound=_Child)


class _Metric(Generic[C]):
    def __init__(
        self, name: str, kind: str, label_names: Sequence[str], new_child: Callable[[], C], bounds: Sequence[float] = ()
    ) -> None:
        self._name = name
        self._kind = kind
        self._label_names = tuple(label_names)
        self._new_child = new_child
        self._bounds = bounds
        self._children: dict[Labels, C] = {}

    def labels(self, *values: str) -> C:
        """The child with these values of the labels, which is made at the first call. Raises ValueError."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self._label_names):
                raise ValueError(f"{self._name} has the labels {', '.join(self._label_names)}, got {values}")
            # Two threads may make it at once: the first to put it there wins.
            child = self._children.setdefault(values, self._new_child())
        return child

    def forget(self, *first: str) -> None:
        """Drops the children whose first labels have these values."""
        for labels in [labels for labels in self._children if labels[: len(first)] == first]:
            del self._children[labels]

    def collect(self) -> Family:
        values = {labels: child.collect() for labels, child in list(self._children.items())}
        return Family(self._name, self._kind, self._label_names, values, self._bounds)


class Counter(_Metric[CounterChild]):
    """Counts what happens."""

    def __init__(self, name: str, label_names: Sequence[str]) -> None:
        super().__init__(name, "counter", label_names, CounterChild)


class Histogram(_Metric[HistogramChild]):
    """Counts values by their size."""

    def __init__(self, name: str, label_names: Sequence[str], bounds: Sequence[float]) -> None:
        """``bounds``: the upper limits of the buckets, rising; above the last there is one more bucket."""
        limits = tuple(bounds)
        super().__init__(name, "histogram", label_names, lambda: HistogramChild(limits), limits)


class Gauge:
    """A number that is asked for when somebody looks, such as one that is kept elsewhere anyway."""

    def __init__(
        self,
        name: str,
        label_names: Sequence[str],
        read: Callable[[], Mapping[Labels, float]],
        *,
        only_grows: bool = False,
    ) -> None:
        """``read`` returns all values there are now. ``only_grows``: Prometheus is told that it is a counter."""
        self._name = name
        self._kind = "counter" if only_grows else "gauge"
        self._label_names = tuple(label_names)
        self._read = read

    def collect(self) -> Family:
        return Family(self._name, self._kind, self._label_names, self._read())


class _Collects(Protocol):
    def collect(self) -> Family: ...


M = TypeVar("M", bound=_Collects)


class Registry:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._metrics: list[_Collects] = []

    def add(self, metric: M) -> M:
        self._metrics.append(metric)
        return metric

    def collect(self) -> list[Family]:
        return [metric.collect() for metric in self._metrics]


def exponential_bounds(first: float, factor: float, count: int) -> list[float]:
    """``first``, ``first * factor``, ``first * factor**2``...: ``count`` of them."""
    return [first * factor**power for power in range(count)]
