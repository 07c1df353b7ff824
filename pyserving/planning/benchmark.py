"""What ``pyserving bench --sweep --json`` has measured of one server, read back and checked."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pyserving.core.errors import invalid_argument

SAMPLES_BEYOND = 5
"""So many requests must have taken longer than a percentile for it to be known at all."""
_ROUNDING = 1.05
"""Times what figures of one run may be apart that say the same: clocks are not read at the same moment."""
MOST_CLIENT_CPU = 0.9
"""Of a core: beyond it the load generator may be what limited the rate."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run of the load generator. All times are in seconds."""

    connections: int
    rate: float | None
    """Requests a second that were sent at random moments; None: each connection sent when it had its answer."""
    answers: int
    throughput: float
    """Answers a second."""
    mean: float
    p99: float
    client_cpu: float
    """Cores that the load generator used."""
    cpu_per_request: float | None
    """Of the server; None where its metrics do not tell."""
    cores: float | None
    """That the server used on average."""
    memory: float | None
    """Bytes of the server at the end."""

    @property
    def in_system(self) -> float:
        """Requests under way on average, by Little's law."""
        return self.throughput * self.mean


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Runs against one server that differ in load only."""

    model: str
    closed: Sequence[Point]
    """By connections, the first with one."""
    open: Sequence[Point]
    """By rate."""
    service_times: Sequence[float]
    """Seconds that requests took which had the server for themselves, each standing for as many of them."""

    @property
    def points(self) -> Sequence[Point]:
        return (*self.closed, *self.open)


def read_benchmark(value: Any, percent: float = 99.0) -> Benchmark:
    """The benchmark in parsed JSON, from which ``percent`` is to be planned.

    Raises INVALID_ARGUMENT that says what is wrong with it, and what to measure.
    """
    if not isinstance(value, Mapping) or ("points" not in value and "latency_ms" not in value):
        raise invalid_argument("this is not what pyserving bench URL --sweep --json writes")
    if "points" not in value:
        raise invalid_argument("this is a run at one load, from which nothing follows for others: add --sweep")
    urls = value.get("urls")
    if isinstance(urls, Sequence) and len(urls) != 1:
        raise invalid_argument(f"a plan needs a benchmark of one server; this one is of {len(urls)}")
    listed = value["points"]
    if not isinstance(listed, Sequence) or not all(isinstance(one, Mapping) for one in listed):
        raise invalid_argument("points: expected a list of runs")
    failed = sum(_number(one, "failed") for one in listed)
    if failed:
        total = sum(_number(one, "requests") for one in listed)
        first = next((text for one in listed for text in one.get("failures") or ()), "")
        raise invalid_argument(f"{failed:.0f} of {total:.0f} requests of the benchmark failed, such as: {first}")
    points = [(_point(one), one) for one in listed]
    closed = sorted((pair for pair in points if pair[0].rate is None), key=lambda pair: pair[0].connections)
    at_rates = sorted((point for point, _ in points if point.rate is not None), key=lambda point: point.rate or 0.0)
    if not closed or closed[0][0].connections != 1:
        raise invalid_argument("there is no run with one connection, which tells how long a request takes by itself")
    if not at_rates:
        raise invalid_argument(
            "all runs are closed loops, which send less when the server is slow: there is none at a rate. "
            "pyserving bench --sweep has both"
        )
    for one, two in pairwise(point.connections for point, _ in closed):
        if one == two:
            raise invalid_argument(f"there are two runs with {one} connections")
    for point, _ in closed:
        if point.in_system > _ROUNDING * point.connections:
            raise invalid_argument(
                f"a run with {point.connections} connections: expected no more requests under way than connections, "
                f"got {point.in_system:.4g}, which are {point.throughput:.4g} a second times {point.mean * 1e3:.4g} ms"
            )
    alone, told = closed[0]
    needed = math.ceil(SAMPLES_BEYOND / (1 - percent / 100))
    for point in (alone, *at_rates):
        if point.answers < needed:
            how = "with one connection" if point.rate is None else f"at {point.rate:.4g} requests a second"
            seconds = math.ceil(needed / point.throughput * 1.1)
            raise invalid_argument(
                f"{point.answers} requests {how} are too few: p{percent:g} needs {needed}. "
                f"Measure for longer: --duration {seconds}"
            )
    times = told.get("service_times_ms")
    if not isinstance(times, Sequence) or not times or not all(_positive(one) for one in times):
        raise invalid_argument("service_times_ms of the run with one connection: expected a list of times")
    mean = sum(map(float, times)) / len(times) / 1e3
    if not alone.mean / _ROUNDING <= mean <= alone.mean * _ROUNDING:
        raise invalid_argument(
            f"service_times_ms of the run with one connection: expected times with its mean of {alone.mean * 1e3:.4g} "
            f"ms, got {mean * 1e3:.4g} ms"
        )
    return Benchmark(
        str(value.get("model", "")),
        [point for point, _ in closed],
        at_rates,
        [float(one) / 1e3 for one in times],
    )


def _point(value: Mapping[str, Any]) -> Point:
    latency = value.get("latency_ms")
    if not isinstance(latency, Mapping):
        raise invalid_argument("a run of the benchmark has no answers")
    answers = int(_number(value, "requests"))
    server = value.get("server")
    server = server if isinstance(server, Mapping) else {}
    rate = None if value.get("rate") is None else _number(value, "rate")
    if rate is not None and rate <= 0:
        raise invalid_argument(f"rate of a run: expected more than 0 requests a second, got {rate:g}")
    throughput = _number(value, "requests_per_second")
    mean, p99 = _number(latency, "mean"), _number(latency, "p99")
    if min(answers, throughput, mean, p99) <= 0:
        raise invalid_argument("a run of the benchmark has no answers")
    return Point(
        connections=int(_number(value, "connections")),
        rate=rate,
        answers=answers,
        throughput=throughput,
        mean=mean / 1e3,
        p99=p99 / 1e3,
        client_cpu=_number(value, "client_cpu"),
        cpu_per_request=_scaled(server, "cpu_ms_per_request", 1e-3),
        cores=_scaled(server, "cores", 1.0),
        memory=_scaled(server, "memory_bytes", 1.0),
    )


def _number(value: Mapping[str, Any], name: str) -> float:
    found: Any = value.get(name)
    if not _is_number(found):
        raise invalid_argument(f"{name} of a run: expected a number, got {repr(found)[:40]}")
    return float(found)


def _scaled(value: Mapping[str, Any], name: str, factor: float) -> float | None:
    return None if value.get(name) is None else _number(value, name) * factor


def _positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_number(value: Any) -> bool:
    """Integers may be larger than any float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
