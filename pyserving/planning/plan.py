"""How many servers, and what each of them needs, for a rate and a latency."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pyserving.core.errors import Code, ServingError
from pyserving.planning.benchmark import MOST_CLIENT_CPU, Benchmark, Point
from pyserving.planning.simulation import REQUESTS, Balancing, simulate
from pyserving.planning.station import Station, measured_station

MEMORY_ROOM = 1.2
"""Times the memory that was seen: fragmentation, larger requests."""
_IDLE = 0.001
"""Utilization at which requests do not wait for each other any more."""
_DOUBTFUL, _WRONG = 1.5, 3.0
"""Times what the model says: where measured latencies are so far off, the plan says so, and there is none."""
_KEPT_UP = 0.9
"""Of a rate that a server can answer: less was answered only if something stood still."""
_MEASURE_AGAIN = "the machine had other work, or the server pauses. Measure again where it is quiet"


@dataclass(frozen=True, slots=True)
class Target:
    rate: float
    """Requests a second."""
    p99: float
    """Seconds."""
    spare: int = 1
    """Replicas that may be away, lost or restarted, while the target holds."""
    max_utilization: float = 0.8
    """Of what the replicas can answer at all."""
    balancing: Balancing = Balancing.RANDOM


@dataclass(frozen=True, slots=True)
class Prediction:
    """What so many replicas do at a rate. Times are in seconds."""

    replicas: int
    rate: float
    utilization: float
    p50: float
    p99: float
    cores: float | None
    """That each uses on average; None where the benchmark does not tell."""


@dataclass(frozen=True, slots=True)
class Check:
    """A run of the benchmark at a rate, beside what the model says of it. Times are in seconds."""

    rate: float
    utilization: float
    measured_p99: float
    model_p99: float


@dataclass(frozen=True, slots=True)
class Plan:
    target: Target
    needed: Prediction
    """With the spare replicas away."""
    all: Prediction
    cores_each: float | None
    """What one used at most in the benchmark."""
    memory_each: float | None
    """Bytes: what one used at most in the benchmark, and MEMORY_ROOM."""

    @property
    def replicas(self) -> int:
        return self.all.replicas


class Planner:
    """Makes plans from one benchmark."""

    def __init__(self, benchmark: Benchmark) -> None:
        """Raises FAILED_PRECONDITION where the server did not behave as the model, so that nothing can be foretold."""
        self._benchmark = benchmark
        self.station: Station = measured_station(benchmark)
        self.checks: Sequence[Check] = [
            self._check(point, point.rate)
            for point in benchmark.open
            if point.rate is not None and point.rate < self.station.capacity
        ]
        # A model that is too hopeful is not believed: what was measured may be worse by the same factor elsewhere.
        self.correction = max([1.0, *(check.measured_p99 / check.model_p99 for check in self.checks)])
        if self.correction > _WRONG:
            worst = max(self.checks, key=lambda check: check.measured_p99 / check.model_p99)
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"at {worst.rate:.4g} requests a second p99 was measured as {worst.measured_p99 * 1e3:.4g} ms, where "
                f"the times and rates of the other runs let expect {worst.model_p99 * 1e3:.4g} ms: {_MEASURE_AGAIN}",
            )

    @property
    def floor(self) -> float:
        """Seconds of the 99th percentile where no request waits for another: no number of replicas gets below it."""
        return float(np.percentile(self.station.times, 99)) * self.correction

    def warnings(self) -> list[str]:
        """What speaks against trusting the plan, in sentences."""
        found = []
        throughputs = [point.throughput for point in self._benchmark.closed]
        if max(point.client_cpu for point in self._benchmark.points) > MOST_CLIENT_CPU:
            found.append("the load generator used a whole core: a replica may do more than the benchmark shows")
        if len(throughputs) > 1 and throughputs[-1] == max(throughputs) and throughputs[-1] > 1.05 * throughputs[-2]:
            most = self._benchmark.closed[-1].connections
            found.append(f"the rate still grew at {most} connections, the most that were tried: a replica may do more")
        if throughputs[-1] < 0.8 * max(throughputs):
            found.append("the server answers less where more is sent at the same time: stay well below its limit")
        if not self.checks:
            found.append("no run at a rate was below what a replica can answer: the model is not checked")
        if self.correction > _DOUBTFUL:
            found.append(
                f"p99 was measured up to {self.correction:.2g} times what the model says (a busy machine, pauses, "
                "another load): the plan reckons with that, but measure again where it is quiet"
            )
        if all(point.memory is None for point in self._benchmark.points):
            found.append("the server's metrics were not read: memory and cores are not known")
        return found

    def predict(self, replicas: int, target: Target) -> Prediction:
        """What ``replicas`` do at the target's rate. Raises RESOURCE_EXHAUSTED where they cannot answer so many."""
        utilization = target.rate / (replicas * self.station.capacity)
        if utilization >= 1:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"{target.rate:.4g} requests a second are more than {replicas} replicas can answer: "
                f"{self.station.capacity:.4g} each",
            )
        # Where requests are rarer still, they do not wait for each other, and moments so far apart lose their digits.
        simulated = max(target.rate, _IDLE * replicas * self.station.capacity)
        taken = simulate(self.station, replicas, simulated, target.balancing, REQUESTS)
        p50, p99 = np.percentile(taken, (50, 99)) * self.correction
        return Prediction(
            replicas, target.rate, utilization, float(p50), float(p99), self._cores_at(target.rate / replicas)
        )

    def plan(self, target: Target) -> Plan:
        """The fewest replicas for the target. Raises FAILED_PRECONDITION where no number of them is enough."""
        if target.p99 <= self.floor:
            raise self._impossible(target)
        enough = self._fewest(target)
        return Plan(
            target,
            needed=enough,
            all=enough if not target.spare else self.predict(enough.replicas + target.spare, target),
            cores_each=_most(point.cores for point in self._benchmark.points),
            memory_each=_most(
                None if point.memory is None else point.memory * MEMORY_ROOM for point in self._benchmark.points
            ),
        )

    def _fewest(self, target: Target) -> Prediction:
        """By doubling what is added, then by halving: more replicas never make it slower."""
        most_each = self.station.capacity * target.max_utilization
        low = math.ceil(target.rate / most_each) - 1
        step = 1
        while (found := self.predict(low + step, target)).p99 > target.p99:
            if found.utilization < _IDLE:
                raise self._impossible(target)
            low += step
            step *= 2
        while found.replicas - low > 1:
            middle = (low + found.replicas) // 2
            tried = self.predict(middle, target)
            if tried.p99 > target.p99:
                low = middle
            else:
                found = tried
        return found

    def _impossible(self, target: Target) -> ServingError:
        least, p99 = min(self.station.times) * 1e3, float(np.percentile(self.station.times, 99)) * 1e3
        text = (
            f"p99 of {target.p99 * 1e3:.4g} ms cannot be had from any number of replicas: a request that has a server "
            f"for itself took {least:.4g} ms at least, and p99 of these was {p99:.4g} ms"
        )
        if self.correction > 1:
            text += f", to be taken times {self.correction:.3g}: runs at a rate took so much longer than the model says"
        return ServingError(Code.FAILED_PRECONDITION, text)

    def _check(self, point: Point, rate: float) -> Check:
        if point.throughput < _KEPT_UP * rate:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"of {rate:.4g} requests a second only {point.throughput:.4g} were answered, though the server can "
                f"answer {self.station.capacity:.4g}: {_MEASURE_AGAIN}",
            )
        taken = simulate(self.station, 1, rate, Balancing.RANDOM, REQUESTS)
        return Check(rate, rate / self.station.capacity, point.p99, float(np.percentile(taken, 99)))

    def _cores_at(self, rate: float) -> float | None:
        """Between those that were measured at other rates; batches make a request cheaper where there are more."""
        known = sorted(
            (point.throughput, point.cpu_per_request)
            for point in self._benchmark.points
            if point.cpu_per_request is not None
        )
        if not known:
            return None
        rates, costs = zip(*known, strict=True)
        return float(np.interp(rate, rates, costs)) * rate


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
