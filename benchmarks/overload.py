"""More requests than a server can do, with deadlines: how many are answered in time.

    python -m benchmarks.overload [--model products] [--seconds 6] [--deadline 0.5] [--rounds 2]

The capacity is what a closed loop of 32 gRPC calls gets answered. Then requests leave at a fixed rate, at 1, 2 and 3
times that, whether or not answers come; the server is told the deadline of each. Goodput: good answers within the
deadline, counted from when a request was due, per second. The same is measured without ``--refuse_late_requests``.
The server has the first core for itself, and the load comes from the others: what sends 3 times as much takes 3 times
the CPU, and on shared cores that would be taken from the server. All loads are measured ``--rounds`` times, one round
after the other: in the first the server has not seen an overload before.
Writes benchmarks/results/overload.{md,json}.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import grpc
import numpy as np

from benchmarks import closed_loop, open_loop, usage
from benchmarks.exported import base_path
from benchmarks.result_files import write_results
from benchmarks.running import free_port, running
from benchmarks.workloads import WORKLOADS, Workload

METHOD = "tensorflow.serving.PredictionService/Predict"
CONNECTIONS = 32
WARM_SECONDS = 3
LOADS = (1.0, 2.0, 3.0)
ON_FIRST_CORE = ("taskset", "--cpu-list", "0")
WAYS = {"refusing": "true", "not refusing": "false"}


PRODUCTS = Workload(
    "products.grpc",
    "products",
    "x",
    lambda: np.random.default_rng(1).random((1, 512), np.float32),
    "grpc",
)
"""What counts here is the engine: with large messages it would be the reading of those that are refused, too."""


def message_of(model: str) -> bytes:
    return PRODUCTS.message if model == PRODUCTS.model else WORKLOADS[f"{model}.grpc"].message


@dataclass(frozen=True, slots=True)
class Sample:
    """One load. Times in milliseconds."""

    way: str
    round: int
    load: float
    """Rate of arrival ÷ capacity."""
    rate: float
    goodput: float
    """Answers within the deadline, per second."""
    late: float
    """Good answers after it, per second."""
    refused: float
    """All else, per second."""
    p50: float
    """Of the good answers."""
    p99: float
    generator_late_p99: float
    cpu: float
    """Of the server, in cores. Less than 1 under overload: others have taken some of the first core."""


@contextmanager
def server(model: str, refuse_late: str, log: Path) -> Iterator[tuple[int, int]]:
    """A server with this model, by its gRPC port and its process id."""
    port = free_port()
    command = [
        *(*ON_FIRST_CORE, sys.executable, "-m", "pyserving.cli.model_server", "--accelerate=off", f"--port={port}"),
        *(f"--model_name={model}", f"--model_base_path={base_path(model)}", f"--refuse_late_requests={refuse_late}"),
    ]
    with running(command, port, log=log) as pid:
        yield port, pid


def capacity(model: str, port: int, seconds: float) -> float:
    """Requests per second in a closed loop."""
    message = message_of(model)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer: bytes = channel.unary_unary(f"/{METHOD}")(message, timeout=60)
    rates = []
    for duration in (WARM_SECONDS, seconds):
        load = closed_loop.grpc(
            f"http://127.0.0.1:{port}/{METHOD}",
            message,
            answer_bytes=len(answer),
            connections=CONNECTIONS,
            seconds=duration,
        )
        rates.append((load.requests - load.failed) / load.seconds)
    return rates[-1]


def leave_first_core() -> None:
    """To the server, where there are others for this process."""
    cores = os.sched_getaffinity(0) - {0}
    if cores:
        os.sched_setaffinity(0, cores)


def measure(
    way: str, turn: int, model: str, port: int, pid: int, load: float, rate: float, seconds: float, deadline: float
) -> Sample:
    message = message_of(model)
    url = f"grpc://127.0.0.1:{port}/{METHOD}"
    before, began = usage.of(pid).cpu_seconds, time.monotonic()
    found = open_loop.start(url, message, rate=rate, seconds=seconds, connections=16, deadline=deadline).result()
    cpu = (usage.of(pid).cpu_seconds - before) / (time.monotonic() - began)
    good = found.seconds[~found.failed]
    in_time = good[good <= deadline]
    p50, p99 = np.percentile(good, [50, 99], method="higher") * 1e3 if len(good) else (float("nan"), float("nan"))
    return Sample(
        way,
        turn,
        load,
        rate,
        len(in_time) / seconds,
        (len(good) - len(in_time)) / seconds,
        int(found.failed.sum()) / seconds,
        float(p50),
        float(p99),
        float(np.percentile(found.late, 99)) * 1e3,
        cpu,
    )


def report(model: str, deadline: float, found: float, samples: list[Sample]) -> list[str]:
    lines = [
        f"{model}, deadline {deadline * 1e3:.0f} ms, capacity {found:.1f} requests/s, "
        f"load average at the end {os.getloadavg()[0]:.1f}",
        "",
        "| | round | load | offered/s | goodput/s | late/s | refused or failed/s | p50 ms | p99 ms | server CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.way} | {s.round} | {s.load:g} × | {s.rate:.0f} | {s.goodput:.1f} | {s.late:.1f} | {s.refused:.1f} | "
        f"{s.p50:.0f} | {s.p99:.0f} | {s.cpu:.2f} |"
        for s in samples
    ]
    for way in WAYS:
        for turn in sorted({s.round for s in samples}):
            own = [s.goodput for s in samples if (s.way, s.round) == (way, turn)]
            if own and max(own):
                ratio = own[-1] / max(own)
                lines.append(f"\n{way}, round {turn}: goodput at {LOADS[-1]:g} × capacity ÷ the peak: {ratio:.2f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures goodput under overload.")
    parser.add_argument("--model", default="products", choices=("mnist", "mobilenet_v2", "products"))
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    parser.add_argument("--deadline", type=float, default=0.5, help="in seconds")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="by default both")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    leave_first_core()
    samples: list[Sample] = []
    found = 0.0
    with tempfile.TemporaryDirectory(prefix="overload-") as scratch:
        for way in given.way or WAYS:
            with server(given.model, WAYS[way], Path(scratch, "log")) as (port, pid):
                own = capacity(given.model, port, given.seconds / 2)
                found = found or own  # one scale for both
                for turn, load in product(range(1, given.rounds + 1), LOADS):
                    rate = load * found
                    samples.append(
                        measure(way, turn, given.model, port, pid, load, rate, given.seconds, given.deadline)
                    )
                    print(samples[-1], file=sys.stderr)
    text = "\n".join(report(given.model, given.deadline, found, samples))
    write_results("overload", text, [asdict(sample) for sample in samples])
    print(text)


if __name__ == "__main__":
    main()
