"""Sends one request again and again, and takes the time: in a closed loop or at a rate."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from pyserving.client.address import parse_address
from pyserving.client.call import Call, Codec, Connection
from pyserving.client.peers import Make, Peer
from pyserving.client.tls import Tls
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.model import Array

T = TypeVar("T")

MOST_UNDER_WAY = 10_000
"""Requests that may wait for their answers at the same time; at a rate that a server cannot keep up with, the rest are
not sent and count as failed."""


@dataclass(slots=True)
class Load:
    """What was measured."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """In seconds, of the requests that were answered well."""
    failures: Counter[str] = field(default_factory=Counter)
    """By code and message."""
    cpu_seconds: float = 0.0
    """That this process took meanwhile."""

    @property
    def requests(self) -> int:
        return len(self.latencies) + self.failures.total()

    @property
    def rate(self) -> float:
        """Good answers in a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentiles(self, percents: Sequence[float]) -> Array:
        """In seconds, nan where nothing was answered."""
        return np.percentile(self.latencies, percents) if self.latencies else np.full(len(percents), np.nan)


class LoadGenerator:
    """So many connections to the servers; used on one event loop."""

    def __init__(
        self, addresses: Sequence[str], connections: int, *, tls: Tls | None, token: str | None, timeout: float
    ) -> None:
        """Raises INVALID_ARGUMENT."""
        headers = [] if token is None else [("Authorization", f"Bearer {token}")]
        parsed = [parse_address(address, tls=tls is not None) for address in addresses]
        self._peers = [Peer(parsed[n % len(parsed)], tls or Tls(), headers) for n in range(connections)]
        self._timeout = timeout
        self._ways: list[tuple[Call[int], Connection]] = []

    async def prepare(self, make: Callable[[Codec], Call[object]]) -> None:
        """Connects, and sends the request once on each connection. Raises ServingError where that fails."""
        self._ways = [await self._way(peer, make) for peer in self._peers]
        await asyncio.gather(*(connection.ask(call, self._timeout) for call, connection in self._ways))

    async def closed_loop(self, seconds: float, load: Load, connections: int | None = None, least: int = 0) -> None:
        """On each connection, or on so many of them, the next request goes when the last has its answer.

        Adds to ``load`` as they come. It takes longer than ``seconds`` until ``least`` were answered, or one failed.
        """
        start, cpu = time.perf_counter(), time.process_time()

        async def turn(call: Call[int], connection: Connection) -> None:
            while (now := time.perf_counter()) < start + seconds or (load.requests < least and not load.failures):
                await self._one(call, connection, now, load)

        await asyncio.gather(*(turn(*way) for way in self._ways[:connections]))
        load.seconds, load.cpu_seconds = time.perf_counter() - start, time.process_time() - cpu

    async def open_loop(self, seconds: float, rate: float, load: Load) -> None:
        """Requests go at random moments, ``rate`` of them a second, whatever is still under way.

        Times count from when a request was due: what waits since the server, or this process, is behind is counted.
        """
        start, cpu = time.perf_counter(), time.process_time()
        due, number = start, 0
        under_way: set[asyncio.Task[None]] = set()
        while (due := due + random.expovariate(rate)) < start + seconds:
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            elif not number % 64:
                await asyncio.sleep(0)  # behind: let answers in
            call, connection = self._ways[number % len(self._ways)]
            number += 1
            if len(under_way) >= MOST_UNDER_WAY:
                load.failures[f"not sent: {MOST_UNDER_WAY} requests were under way"] += 1
                continue
            task = asyncio.create_task(self._one(call, connection, due, load))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way)
        load.seconds, load.cpu_seconds = time.perf_counter() - start, time.process_time() - cpu

    async def close(self) -> None:
        for peer in self._peers:
            await peer.close()

    async def _way(self, peer: Peer, make: Make[object]) -> tuple[Call[int], Connection]:
        call, connection = await peer.way(make, self._timeout)
        return Call(call.path, call.body, len, call.headers), connection

    async def _one(self, call: Call[int], connection: Connection, start: float, load: Load) -> None:
        try:
            await connection.ask(call, self._timeout)
        except ServingError as error:
            load.failures[str(error)] += 1
            if error.code is Code.UNAVAILABLE:
                await asyncio.sleep(0.01)  # nobody there: no use in asking as fast as one can
        else:
            load.latencies.append(time.perf_counter() - start)
