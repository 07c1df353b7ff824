"""Latency of half_plus_two at a fixed rate while ResNet50 loads, beside the same in quiet.

python -m benchmarks.loading [--rate 500] [--rounds 7] [--warmup-records 0]
writes benchmarks/results/loading*.{md,json,npz}

A round: some seconds of quiet, then versions of ResNet50 one after the other, each loaded while the one before is
served, which is then unloaded. The ratios are taken within each round, for on a shared machine rounds differ. Where the
generator itself was late, the machine had no time for either: such a round says nothing about the server.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks import open_loop
from benchmarks.changing_model import ChangingServer, Span, resnet50
from benchmarks.open_loop import HALF_PLUS_TWO, Latencies
from benchmarks.result_files import RESULTS, write_results

PERCENTS = (50.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class Round:
    quiet: Span
    loading: list[Span]
    unloading: list[Span]
    busy: float
    """CPUs of the machine that were busy in the quiet part, with our work or others'."""


def _round(server: ChangingServer, seconds: float, swaps: int) -> Round:
    begin, busy = time.monotonic(), _busy_seconds()
    time.sleep(seconds)
    quiet = (begin, time.monotonic())
    busy = (_busy_seconds() - busy) / (quiet[1] - quiet[0])
    loading, unloading = [], []
    for _ in range(swaps):
        loading.append(server.add())
        unloading.append(server.unloaded(before=1))
    return Round(quiet, loading, unloading, busy)


def _busy_seconds() -> float:
    """CPU time of the whole machine since it started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / 100


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of half_plus_two while ResNet50 loads.")
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quiet-seconds", type=float, default=4.0, help="in each round")
    parser.add_argument("--swaps", type=int, default=4, help="in each round")
    parser.add_argument("--warmup-records", type=int, default=0, help="that each version of ResNet50 has")
    given, more = parser.parse_known_args()
    version = resnet50(given.warmup_records)
    with ChangingServer(version, *more) as server:
        server.add()
        server.add()
        server.unloaded(before=1)
        # Ends with the server: how long loads take is not known. What it then has sent in vain is cut off.
        load = open_loop.start(server.url, HALF_PLUS_TWO, rate=given.rate, seconds=3600)
        try:
            time.sleep(1.5)
            rounds = [_round(server, given.quiet_seconds, given.swaps) for _ in track(range(given.rounds), "measuring")]
        except BaseException:
            load.stop()
            raise
        latencies = load.finish()
    report(latencies, rounds, f"loading-{given.rate:g}-{given.warmup_records}", given.rate)


def report(latencies: Latencies, rounds: list[Round], name: str, rate: float) -> None:
    lines = [
        f"half_plus_two at {rate:g} requests/s over REST; latency in ms: p50 / p99 / p99.9 (largest)",
        "",
        "| round | busy CPUs | quiet | loading | s each | unloading | generator late, p99 | p99, loading to quiet |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ratios = []
    for number, one in enumerate(rounds, 1):
        quiet, loading, unloading = (latencies.during(spans) for spans in ([one.quiet], one.loading, one.unloading))
        ratios.append(loading.percentiles([99])[0] / quiet.percentiles([99])[0])
        seconds = statistics.median(end - begin for begin, end in one.loading)
        lines.append(
            f"| {number} | {one.busy:.2f} | {_text(quiet)} | {_text(loading)} | {seconds:.2f} | {_text(unloading)} | "
            f"{_late(quiet)}, {_late(loading)} | {ratios[-1]:.2f} |"
        )
    everything = [
        latencies.during([span for one in rounds for span in spans(one)])
        for spans in (lambda one: [one.quiet], lambda one: one.loading, lambda one: one.unloading)
    ]
    lines += [
        f"| all | | {_text(everything[0])} | {_text(everything[1])} | | {_text(everything[2])} | | "
        f"median {statistics.median(ratios):.2f} |",
        "",
        f"{len(latencies.due)} requests, {latencies.failed.sum()} failed.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    spans = [{"quiet": r.quiet, "loading": r.loading, "unloading": r.unloading, "busy": r.busy} for r in rounds]
    write_results(name, text, {"ratios": ratios, "rounds": spans})
    latencies.save(RESULTS / f"{name}.npz")


def _late(latencies: Latencies) -> str:
    return f"{np.percentile(latencies.late, 99) * 1e3:.2f}"


def _text(latencies: Latencies) -> str:
    times = " / ".join(f"{seconds * 1e3:.2f}" for seconds in latencies.percentiles(PERCENTS))
    return f"{times} ({latencies.seconds.max(initial=0.0) * 1e3:.1f})"


if __name__ == "__main__":
    main()
