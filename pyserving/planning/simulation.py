"""Requests that arrive at random moments at several servers: how long they take, by discrete-event simulation."""

from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from pyserving.planning.station import Station

REQUESTS = 200_000
_WARM_UP = 0.1
"""Part of the requests that are left out, for they find the servers idle."""
_MOST_SERVERS = 64
"""Of more, as many are simulated with the same load each: a longer choice makes waiting shorter, so this errs to the
safe side."""

Floats = NDArray[np.float64]


class Balancing(StrEnum):
    """Which server a request goes to."""

    RANDOM = "random"
    """Any. So do many clients that do not know of each other, and a Kubernetes Service where clients connect often."""
    ROUND_ROBIN = "round-robin"
    """Each in its turn."""
    LEAST = "least"
    """The one with the fewest requests under way, as one client or one proxy sees it."""


def simulate(
    station: Station, servers: int, rate: float, balancing: Balancing, requests: int, *, seed: int = 1
) -> Floats:
    """Seconds that requests take from arrival to answer, where ``rate`` of them a second arrive as a Poisson process.

    There must be less load than the servers can take: no steady state exists otherwise.
    """
    random = np.random.default_rng(seed)
    together = 1
    if balancing is Balancing.LEAST:
        together = min(servers, _MOST_SERVERS)
        gaps = random.exponential(servers / rate / together, requests)
    elif balancing is Balancing.ROUND_ROBIN:
        gaps = random.gamma(servers, 1 / rate, requests)  # each server gets every n-th of a Poisson process
    else:
        gaps = random.exponential(
            servers / rate, requests
        )  # parts of a Poisson process that are chosen at random are one
    work = random.choice(np.asarray(station.times), requests)
    taken = _run(station.speeds, together, np.cumsum(gaps).tolist(), work.tolist())
    return np.asarray(taken[int(requests * _WARM_UP) :])


class _Server:
    __slots__ = ("active", "changes", "progress", "since", "waiting")

    def __init__(self) -> None:
        self.progress = 0.0
        """Seconds of work done by now on a request that was always there."""
        self.since = 0.0
        """When that was so."""
        self.active: list[tuple[float, int]] = []
        """Heap of (progress at its end, number of the request)."""
        self.waiting: deque[int] = deque()
        self.changes = 0


def _run(speeds: Sequence[float], servers: int, arrivals: Sequence[float], work: Sequence[float]) -> list[float]:
    slots = len(speeds)
    speed_of = (0.0, *speeds)
    all_servers = [_Server() for _ in range(servers)]
    loads = [0] * servers
    taken = [0.0] * len(arrivals)
    ends: list[tuple[float, int, int]] = []
    """Heap of (time, server, its number of changes when that was reckoned: later changes make it void)."""

    def advance(server: _Server, now: float) -> None:
        server.progress += (now - server.since) * speed_of[len(server.active)]
        server.since = now

    def expect(number: int, server: _Server) -> None:
        server.changes += 1
        if active := server.active:
            end = server.since + (active[0][0] - server.progress) / speed_of[len(active)]
            heappush(ends, (end, number, server.changes))

    def finish_until(limit: float) -> None:
        while ends and ends[0][0] <= limit:
            now, number, changes = heappop(ends)
            server = all_servers[number]
            if changes != server.changes:
                continue
            advance(server, now)
            _, request = heappop(server.active)
            taken[request] = now - arrivals[request]
            loads[number] -= 1
            if server.waiting:
                request = server.waiting.popleft()
                heappush(server.active, (server.progress + work[request], request))
            expect(number, server)

    for request, now in enumerate(arrivals):
        finish_until(now)
        number = loads.index(min(loads))
        server = all_servers[number]
        loads[number] += 1
        if len(server.active) == slots:
            server.waiting.append(request)
        else:
            advance(server, now)
            heappush(server.active, (server.progress + work[request], request))
            expect(number, server)
    finish_until(float("inf"))
    return taken
