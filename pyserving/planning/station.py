"""One server as queueing theory sees it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyserving.planning.benchmark import Benchmark

_FULL = 0.95
"""Of the highest throughput: more requests at the same time bring no more from here on."""


@dataclass(frozen=True, slots=True)
class Station:
    """A server that works on so many requests at the same time; others wait in line, first come, first served.

    All that it works on get on at the same speed, which depends on how many they are: the flow-equivalent server of
    Chandy, Herzog and Woo (1975), with limited processor sharing. What makes a server's throughput depend on its load,
    cores, locks or batches, is in these speeds, for they were measured. With the speeds ``(1,)`` it is the server of
    M/G/1, with ``(1,) * c`` those of M/G/c, with ``(1, 1/2, 1/3, ...)`` one with processor sharing.
    """

    times: Sequence[float]
    """Seconds that requests take which are alone, each as likely as the others."""
    speeds: Sequence[float]
    """Of each request, where 1, 2, ... are worked on, beside one that is alone; the first is 1."""

    @property
    def mean(self) -> float:
        """Seconds that a request takes alone."""
        return float(np.mean(self.times))

    @property
    def capacity(self) -> float:
        """Requests a second that it can answer."""
        return len(self.speeds) * self.speeds[-1] / self.mean


def measured_station(benchmark: Benchmark) -> Station:
    """The station with the service times, and the throughput at each load, of a benchmark."""
    mean = float(np.mean(benchmark.service_times))
    highest = max(point.throughput for point in benchmark.closed)
    full = next(n for n, point in enumerate(benchmark.closed) if point.throughput >= _FULL * highest)
    used = benchmark.closed[1 : full + 1]
    # Not by connections: while one sends its next request, the server has one less.
    slots = max(1, round(used[-1].in_system)) if used else 1
    loads = [1.0, *(point.in_system for point in used)]
    throughputs = np.maximum.accumulate([1 / mean, *(point.throughput for point in used)])
    numbers = np.arange(1, slots + 1)
    speeds = np.interp(numbers, np.maximum.accumulate(loads), throughputs) * mean / numbers
    return Station(benchmark.service_times, [1.0, *np.minimum(speeds[1:], 1.0).tolist()])
