"""Whether a model that gets more requests than it can do takes anything from another model.

    python -m benchmarks.flooded [--seconds 6] [--load 3] [--rate 100] [--rounds 3]

One ``pyserving serve`` with its defaults, on the first core, serves two models whose calls run on threads. The small
CNN is asked over gRPC at a steady rate: alone, and while the model ``products`` gets ``--load`` times what it can do
(see overload.py). All requests have a deadline of 0.5 s. Writes benchmarks/results/flooded.{md,json}.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import open_loop
from benchmarks.exported import base_path
from benchmarks.open_loop import Latencies
from benchmarks.overload import METHOD, ON_FIRST_CORE, capacity, leave_first_core, message_of
from benchmarks.result_files import write_results
from benchmarks.running import free_port, running

FLOODED, OTHER = "products", "mnist"
DEADLINE = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """What one model got in one measurement. Times in milliseconds, of good answers."""

    round: int
    model: str
    flooded: bool
    """Whether FLOODED got more than it can do meanwhile."""
    offered: float
    """Requests per second."""
    good: float
    """Answers within the deadline, per second."""
    not_good: int
    """Requests that were refused, failed, or answered late."""
    p50: float
    p99: float


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """A server with both models, by its gRPC port."""
    config, port = folder / "models.config", free_port()
    entries = [
        f'config {{ name: "{name}" base_path: "{base_path(name)}" model_platform: "tensorflow" }}'
        for name in (FLOODED, OTHER)
    ]
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    command = [
        *(*ON_FIRST_CORE, sys.executable, "-m", "pyserving.cli.main", "serve", f"--config={config}"),
        *(f"--port={port}", f"--rest-port={free_port()}", "--host=127.0.0.1", "--accelerate=off", "--wait-for-models"),
    ]
    with running(command, port, log=folder / "log"):
        yield port


def begin(model: str, port: int, rate: float, seconds: float) -> open_loop.Running:
    url = f"grpc://127.0.0.1:{port}/{METHOD}"
    return open_loop.start(url, message_of(model), rate=rate, seconds=seconds, connections=16, deadline=DEADLINE)


def sample(turn: int, model: str, flooded: bool, rate: float, seconds: float, found: Latencies) -> Sample:
    in_time = found.seconds[~found.failed & (found.seconds <= DEADLINE)]
    p50, p99 = np.percentile(in_time, [50, 99], method="higher") * 1e3 if len(in_time) else (np.nan, np.nan)
    not_good = len(found.seconds) - len(in_time)
    return Sample(turn, model, flooded, rate, len(in_time) / seconds, not_good, float(p50), float(p99))


def measure(port: int, turn: int, flood: float, rate: float, seconds: float) -> list[Sample]:
    alone = begin(OTHER, port, rate, seconds).result()
    flooding, beside = begin(FLOODED, port, flood, seconds), begin(OTHER, port, rate, seconds)
    return [
        sample(turn, OTHER, False, rate, seconds, alone),
        sample(turn, OTHER, True, rate, seconds, beside.result()),
        sample(turn, FLOODED, True, flood, seconds, flooding.result()),
    ]


def report(samples: list[Sample]) -> str:
    lines = [
        f"Load average at the end {os.getloadavg()[0]:.1f}",
        "",
        "| round | model | | offered/s | in time/s | refused, failed or late | p50 ms | p99 ms |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {s.round} | {s.model} | {f'{FLOODED} is flooded' if s.flooded else 'alone'} | {s.offered:.0f} | "
        f"{s.good:.1f} | {s.not_good} | {s.p50:.1f} | {s.p99:.1f} |"
        for s in samples
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures a model beside one that is flooded.")
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    parser.add_argument("--load", type=float, default=3, help="of the flooded model, as a multiple of what it can do")
    parser.add_argument("--rate", type=float, default=100, help="requests per second to the other")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    leave_first_core()
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="flooded-") as scratch, server(Path(scratch)) as port:
        flood = given.load * capacity(FLOODED, port, given.seconds / 2)
        begin(OTHER, port, given.rate, 2).result()  # the first requests of a model are slower
        for turn in range(1, given.rounds + 1):
            samples += measure(port, turn, flood, given.rate, given.seconds)
    text = report(samples)
    write_results("flooded", text, [asdict(one) for one in samples])
    print(text)


if __name__ == "__main__":
    main()
