"""Three networks through two servers, one with faster engines and one on TensorFlow alone, in one run.

python -m benchmarks.acceleration [--rounds 5] [--seconds 3]
writes benchmarks/results/acceleration.{md,json}

First each engine is tried as the server tries it, which also gives the time of the engine alone; then both servers run
at once, and one connection asks them in turn, over REST and gRPC. All answers are compared with TensorFlow's before.
"""

import argparse
import dataclasses
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks import exported, report, servers
from benchmarks.contenders import CONTENDERS, Contender, Start
from benchmarks.result_files import write_results
from benchmarks.rounds import interleaved, ratio
from benchmarks.servers import Sample, Server
from benchmarks.workloads import WORKLOADS, Array, Workload
from pyserving.acceleration.accelerator import Acceleration, AccelerationOptions
from pyserving.acceleration.trials import Finding
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.server.optimize import optimize

BATCHES = {"mnist": (1,), "mobilenet_v2": (1, 8), "resnet50": (1, 8)}
SIGNATURE = "serving_default"
OFF, AUTO = "TensorFlow", "accelerated"


def main() -> None:
    parser = argparse.ArgumentParser(description="Accelerated models beside TensorFlow's.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--models", default=",".join(BATCHES))
    given = parser.parse_args()
    names = given.models.split(",")
    exported.build(names)
    before = report.machine()
    with tempfile.TemporaryDirectory(prefix="acceleration-") as folder:
        cache, log = str(Path(folder, "cache")), Path(folder, "log")
        tried = {name: _try(name, cache) for name in track(names, "trying engines")}
        python = Path(sys.executable)
        with ExitStack() as stack:
            running = {}
            for label, contender in ((OFF, CONTENDERS["pyserving"]), (AUTO, _accelerated(cache))):
                started = servers.started(contender, python, exported.MODELS, names, Path(f"{log}-{label}"))
                running[label] = stack.enter_context(started)
            _wait_for_engines(Path(f"{log}-{AUTO}"), names)
            workloads = [_with_batch(name, batch, kind) for name in names for batch in BATCHES[name]
                         for kind in ("rest", "grpc")]  # fmt: skip
            samples = _measure(running, workloads, given.rounds, given.seconds)
    text = _report(tried, samples, before, report.machine(), given.rounds, given.seconds)
    print(text)
    found = {
        "machine": before,
        "engines": {name: [finding.verdict.to_json() for finding in findings] for name, findings in tried.items()},
        "served": {name: {label: [dataclasses.asdict(sample) for sample in of_label]
                          for label, of_label in by_label.items()} for name, by_label in samples.items()},
    }  # fmt: skip
    write_results("acceleration", text, found)


def _try(name: str, cache: str) -> list[Finding]:
    """As ``pyserving optimize`` does, so that the server finds it in the cache."""
    folder = str(exported.base_path(name) / "1")
    found = optimize(folder, AccelerationOptions(Acceleration.AUTO, cache), lambda _: None)
    return list(found[SIGNATURE].findings.values())


def _accelerated(cache: str) -> Contender:
    def command(start: Start) -> Sequence[object]:
        # Of a flag that is given twice the last counts.
        return [*CONTENDERS["pyserving"].command(start), "--accelerate=auto", f"--acceleration_cache={cache}"]

    return dataclasses.replace(CONTENDERS["pyserving"], key="accelerated", label=AUTO, command=command)


def _wait_for_engines(log: Path, names: Sequence[str], seconds: float = 600) -> None:
    """Returns once the server has said of each model which engine serves it. Raises RuntimeError if it does not."""
    end = time.monotonic() + seconds
    waiting = list(names)
    while waiting:
        lines = [line for line in log.read_text().splitlines() if f"signature {SIGNATURE} " in line]
        waiting = [name for name in waiting if not any(f"name: {name} " in line for line in lines)]
        if time.monotonic() > end:
            raise RuntimeError(f"no engine for {', '.join(waiting)} after {seconds:g} s:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def _with_batch(name: str, batch: int, transport: str) -> Workload:
    one = WORKLOADS[f"{name}.{transport}"]
    if batch == 1:
        return one
    return dataclasses.replace(one, name=f"{name}-{batch}.{transport}", batch=batch,
                               make=functools.partial(_rows, one, batch))  # fmt: skip


def _rows(one: Workload, batch: int) -> Array:
    """Other rows than the first, each of them."""
    return np.concatenate([np.roll(one.instances, shift, 1) for shift in range(batch)])


def _measure(
    running: dict[str, Server], workloads: Sequence[Workload], rounds: int, seconds: float
) -> dict[str, dict[str, list[Sample]]]:
    """By workload and server."""
    for name in dict.fromkeys(workload.model for workload in workloads):
        model = TensorFlowModel(str(exported.MODELS / name / "1"), SessionOptions())
        signature = model.signatures[SIGNATURE]
        for workload in (each for each in workloads if each.model == name):
            (right,) = model.run(signature, {workload.input_name: workload.instances}, tuple(signature.outputs))
            for server in running.values():
                server.check(workload, right)
        model.close()
    for server in running.values():
        server.measure_idle()
    runs = {
        f"{workload.name} {label}": functools.partial(server.measure, workload, 1, seconds)
        for workload in workloads
        for label, server in running.items()
    }
    found: dict[str, dict[str, list[Sample]]] = {each.name: {label: [] for label in running} for each in workloads}
    for key, sample in track(interleaved(runs, rounds), "measuring", total=len(runs) * rounds):
        name, label = key.split()
        found[name][label].append(sample)
    return found


def _report(
    tried: dict[str, list[Finding]],
    samples: dict[str, dict[str, list[Sample]]],
    before: dict[str, Any],
    after: dict[str, Any],
    rounds: int,
    seconds: float,
) -> str:
    lines = [
        f"{before['cores']} cores of {before['processor']}, TensorFlow {before['tensorflow']}; load average "
        f"{before['load_average']} before, {after['load_average']} after.",
        "",
        "The engine alone, median ms of a run, TensorFlow's and the engine's in turn:",
        "",
        "| model | rows | engine | TensorFlow | engine | times as fast | largest difference |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for name, findings in tried.items():
        for verdict in (finding.verdict for finding in findings):
            if verdict.refusal:
                lines.append(f"| {name} | | {verdict.engine} | | | {verdict.refusal} | |")
            lines += [
                f"| {name} | {timing.rows} | {verdict.engine} | {timing.tensorflow * 1e3:.3g} | "
                f"{timing.engine * 1e3:.3g} | {timing.gain:.2f} | {verdict.largest_difference:.2g} |"
                for timing in verdict.timings
            ]
    lines += [
        "",
        f"Through the server, one connection, {rounds} interleaved rounds of {seconds:g} s; p50 of the latency and CPU "
        "time of the server, ms per request, medians of the rounds; ratios are taken within each round:",
        "",
        "| model, batch, protocol | p50: TensorFlow | accelerated | times as fast | CPU: TensorFlow | accelerated | "
        "ratio | failed |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, by_label in samples.items():
        p50 = {label: [sample.load.p50_ms for sample in of_label] for label, of_label in by_label.items()}
        cpu = {label: [sample.cpu_ms_per_request for sample in of_label] for label, of_label in by_label.items()}
        shown = []
        for figures in (p50, cpu):
            shown += [f"{statistics.median(figures[label]):.3g}" for label in (OFF, AUTO)]
            shown.append(f"{ratio(figures[OFF], figures[AUTO]):.2f}")
        failed = sum(sample.load.failed for of_label in by_label.values() for sample in of_label)
        lines.append(f"| {name} | {' | '.join(shown)} | {failed} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
