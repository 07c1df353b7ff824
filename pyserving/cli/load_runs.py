"""Runs of the load generator: at one load, or at several, from which the rest of a server's behaviour follows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pyserving.cli.server_usage import Usage, UsageMeter
from pyserving.cli.terminal import errors_to
from pyserving.client.load import Load, LoadGenerator

PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)
RATES = (0.3, 0.5, 0.7)
"""Of the highest throughput: what a sweep sends at random moments."""
_NO_MORE = 1.05
"""Growth of the throughput below which a sweep thinks that more connections bring nothing..."""
_STANDSTILLS = 2
"""...after so many tries."""
_MOST_TIMES = 1000
_ENOUGH = 1000
"""Requests of the runs of a sweep in which percentiles matter: at low rates they are longer for that."""


@dataclass(frozen=True, slots=True)
class LoadRun:
    connections: int
    rate: float | None
    """Requests a second; None: a closed loop."""
    load: Load
    usage: Usage | None

    def to_json(self) -> dict[str, Any]:
        load = self.load
        latency = None
        if load.latencies:
            latency = {
                percent_name(p): float(t) * 1e3 for p, t in zip(PERCENTS, load.percentiles(PERCENTS), strict=True)
            }
            latency["mean"] = float(np.mean(load.latencies)) * 1e3
        return {
            "connections": self.connections,
            "rate": self.rate,
            "requests": load.requests,
            "failed": load.failures.total(),
            "failures": dict(load.failures),
            "seconds": load.seconds,
            "requests_per_second": load.rate,
            "client_cpu": load.cpu_seconds / load.seconds if load.seconds else 0.0,
            "latency_ms": latency,
            "server": None if self.usage is None else self.usage.to_json(len(load.latencies)),
        }

    def service_times_ms(self) -> list[float]:
        """The latencies in order; where they are many, the means of equal parts of them, whose mean is the same."""
        sums = np.cumsum([0.0, *np.sort(self.load.latencies)])
        count = len(sums) - 1
        ends = np.linspace(0, count, min(count, _MOST_TIMES) + 1)  # a part may end within a request
        times = np.diff(np.interp(ends, np.arange(count + 1), sums)) / np.diff(ends)
        return np.sort(times * 1e3).tolist()  # type: ignore[no-any-return]  # equal ones differ in their last digit


class LoadRuns:
    """Measures with one generator that is ready."""

    def __init__(
        self, generator: LoadGenerator, meter: UsageMeter, *, duration: float, warmup: float, show: bool
    ) -> None:
        """Each run is ``duration`` seconds, after ``warmup`` that are not measured; ``show``: a bar meanwhile."""
        self._generator = generator
        self._meter = meter
        self._duration = duration
        self._warmup = warmup
        self._show = show

    async def run(self, connections: int, rate: float | None, least: int = 0) -> LoadRun:
        """``rate``: requests a second; None: each of the connections sends when it has its answer.

        ``least``: requests for which a run is longer than the others.
        """
        duration = self._duration if rate is None else max(least / rate, self._duration)
        load, usage = Load(), None
        text = f"{connections} connections" if rate is None else f"{rate:.4g} requests a second"
        with _progress(load, text, self._warmup + duration, self._show):
            for seconds, enough in ((self._warmup, 0), (duration, least)):
                load.latencies.clear()
                load.failures.clear()
                if not seconds:
                    continue
                await self._meter.begin()
                if rate is None:
                    await self._generator.closed_loop(seconds, load, connections, enough)
                else:
                    await self._generator.open_loop(seconds, rate, load)
                usage = await self._meter.end(load.seconds)
        return LoadRun(connections, rate, load, usage)

    async def sweep(self, most: int) -> AsyncIterator[LoadRun]:
        """Closed loops with 1, 2, 4 ... connections, until more of them bring no more or they are ``most``; then runs
        at parts of the highest rate that was reached."""
        highest, standstills, connections = 0.0, 0, 1
        while True:
            run = await self.run(connections, None, _ENOUGH if connections == 1 else 0)
            yield run
            standstills = 0 if run.load.rate > _NO_MORE * highest else standstills + 1
            highest = max(highest, run.load.rate)
            if connections == most or standstills == _STANDSTILLS or not highest:
                break
            connections = min(2 * connections, most)
        for part in RATES if highest else ():
            yield await self.run(connections, part * highest, _ENOUGH)


def percent_name(percent: float) -> str:
    return "max" if percent == 100 else f"p{percent:g}"


@contextlib.contextmanager
def _progress(load: Load, text: str, seconds: float, show: bool) -> Iterator[None]:
    """A bar on the terminal, and nothing where there is none."""
    console = errors_to()
    if not show or not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[answered]} answered"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task(text, total=seconds, answered=0)
        loop = asyncio.get_running_loop()
        start = loop.time()

        async def show_it() -> None:
            while True:
                await asyncio.sleep(0.25)
                progress.update(task, completed=loop.time() - start, answered=load.requests, refresh=True)

        showing = loop.create_task(show_it())
        try:
            yield
        finally:
            showing.cancel()
