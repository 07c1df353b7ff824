"""What ``pyserving plan`` foretells of several servers, beside what they do: ``python -m benchmarks.planning``.

The servers' model answers one request at a time and sleeps meanwhile, so that neither cores nor the load generator are
what limits: once for a fixed time (as M/D/1), once for an exponential one (M/M/1). One server is measured by
``pyserving bench --sweep``; then 1, 2 and 3 of them get requests at random moments.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.running import ROOT, free_port, running
from pyserving.client import AsyncClient
from pyserving.planning.benchmark import read_benchmark
from pyserving.planning.plan import Planner, Target
from pyserving.planning.simulation import Balancing

SLEEPS = {"fixed": "0.004", "exponential": "random.expovariate(250)"}
CASES = [
    (1, 130, Balancing.LEAST),
    (2, 130, Balancing.LEAST),
    (2, 260, Balancing.LEAST),
    (3, 390, Balancing.LEAST),
    (2, 260, Balancing.ROUND_ROBIN),
    (3, 390, Balancing.ROUND_ROBIN),
]
"""Servers, requests a second, how they are spread."""
_MODEL = """
import random, threading, time
import numpy as np
from pyserving import Model, Tensor

class Sleeper(Model):
    def load(self, folder):
        self.lock = threading.Lock()

    def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
        with self.lock:
            time.sleep({seconds})
        return x
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times are in milliseconds."""

    sleep: str
    servers: int
    rate: float
    balancing: Balancing
    utilization: float
    model_p50: float
    model_p99: float
    """Before it is corrected by what was measured at rates."""
    planned_p99: float
    """After that."""
    p50: float
    p99: float


def measure(seconds: float) -> Iterator[Outcome]:
    """Each case for so many seconds; benchmarks of one server come first. Raises ServingError for a noisy one."""
    most = max(servers for servers, _, _ in CASES)
    with TemporaryDirectory() as scratch, _servers(Path(scratch), most) as urls:
        for sleep in SLEEPS:
            told = _bench(urls[:1], sleep, "--sweep", "--duration=4", "--connections=8")
            planner = Planner(read_benchmark(told))
            for servers, rate, balancing in CASES:
                found = planner.predict(servers, Target(rate, float("inf"), balancing=balancing))
                if balancing is Balancing.LEAST:
                    taken = asyncio.run(_ask(urls[:servers], sleep, rate, seconds))
                    p50, p99 = (float(value) * 1e3 for value in np.percentile(taken, (50, 99)))
                else:  # its connections are used in turn, and so are its servers
                    run = _bench(
                        urls[:servers], sleep, f"--rate={rate}", f"--duration={seconds}", f"--connections={servers}"
                    )
                    p50, p99 = run["latency_ms"]["p50"], run["latency_ms"]["p99"]
                by_model = [value * 1e3 / planner.correction for value in (found.p50, found.p99)]
                yield Outcome(sleep, servers, rate, balancing, found.utilization, *by_model, found.p99 * 1e3, p50, p99)


@contextmanager
def _servers(scratch: Path, count: int) -> Iterator[list[str]]:
    for name, seconds in SLEEPS.items():
        folder = scratch / "models" / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(_MODEL.format(seconds=seconds))
    with ExitStack() as stack:
        urls = []
        for _ in range(count):
            rest, grpc = free_port(), free_port()
            command = [
                sys.executable, "-m", "pyserving.cli.main", "serve", scratch / "models", "--python-models=on",
                "--host=127.0.0.1", f"--rest-port={rest}", f"--port={grpc}",
            ]  # fmt: skip
            stack.enter_context(running(command, rest))
            urls.append(f"http://127.0.0.1:{rest}")
        for url in urls:
            _pyserving("status", url, "--wait=60")
        yield urls


async def _ask(urls: Sequence[str], model: str, rate: float, seconds: float) -> list[float]:
    """Seconds from the random moment at which each request was due until its answer."""
    taken: list[float] = []
    async with AsyncClient(*urls) as client:

        async def one(due: float) -> None:
            await client.predict(model, [1.0])
            taken.append(time.perf_counter() - due)

        await asyncio.gather(*(one(time.perf_counter()) for _ in range(20)))  # connects, and learns the signature
        taken.clear()
        due = start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while (due := due + random.expovariate(rate)) < start + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(due))
    return taken


def _bench(urls: Sequence[str], model: str, *options: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(_pyserving("bench", *urls, "-m", model, "--warmup=0.5", "--json", *options))
    return told


def _pyserving(*arguments: str) -> str:
    command = [sys.executable, "-m", "pyserving.cli.main", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout


def lines_of(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """A table for docs/scaling.md, as its lines come."""
    yield (
        "| time of a request | servers | requests/s | spread | utilization | p50: model, measured "
        "| p99: model, planned, measured |\n"
        "|---|---|---|---|---|---|---|"
    )
    for one in outcomes:
        yield (
            f"| {one.sleep} | {one.servers} | {one.rate:g} | {one.balancing} | {one.utilization:.0%} "
            f"| {one.model_p50:.1f}, {one.p50:.1f} ms | {one.model_p99:.1f}, {one.planned_p99:.1f}, {one.p99:.1f} ms |"
        )


if __name__ == "__main__":
    for line in lines_of(measure(10)):
        print(line, flush=True)
