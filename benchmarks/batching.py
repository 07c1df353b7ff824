"""How requests are best joined: automatic batching beside TensorFlow Serving's parameters, over gRPC.

    python -m benchmarks.batching [--seconds 3] [--rounds 5] [--model mnist] ...

First a sweep: each fixed setting is measured once, under load from many connections. Then those that answered most and
the one that used the least CPU time are measured again, interleaved with automatic batching and with none, under the
same load and with a lone connection. Writes benchmarks/results/batching.{md,json}.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import grpc
from rich.progress import track

from benchmarks import closed_loop, usage
from benchmarks.exported import base_path
from benchmarks.result_files import write_results
from benchmarks.rounds import interleaved, ratio, spread
from benchmarks.running import free_port, running
from benchmarks.workloads import WORKLOADS

METHOD = "tensorflow.serving.PredictionService/Predict"
MODELS = ("half_plus_two", "mnist", "mobilenet_v2")
CONNECTIONS, LONE = 32, 1
WARM_SECONDS = 6
"""What calls cost is learned under load, before anything is measured."""

SIZES, TIMEOUTS, THREADS = (8, 16, 32, 64), (0, 1000, 5000), (1, 2, 4)
MOST, LEAST_CPU = 2, 1
"""So many of the sweep are measured again."""

NONE, AUTOMATIC = "none", "automatic"


@dataclass(frozen=True, slots=True)
class Fixed:
    """A setting of TensorFlow Serving's BatchingParameters."""

    max_batch_size: int
    batch_timeout_micros: int
    num_batch_threads: int

    @property
    def name(self) -> str:
        return f"{self.max_batch_size} rows, {self.batch_timeout_micros} µs, {self.num_batch_threads} threads"

    def text(self) -> str:
        values = {**asdict(self), "max_enqueued_batches": 1000}
        return "".join(f"{name} {{ value: {value} }}\n" for name, value in values.items())


@dataclass(frozen=True, slots=True)
class Sample:
    requests_per_second: float
    cpu_ms: float
    """Of the server, per request."""
    p50_ms: float
    p99_ms: float


class Server:
    """One server with all models."""

    def __init__(self, pid: int, port: int, warm_seconds: float) -> None:
        self._pid, self._port, self._warm_seconds = pid, port, warm_seconds
        self._answer_bytes: dict[str, int] = {}

    def measure(self, model: str, connections: int, seconds: float) -> Sample:
        """Raises RuntimeError where a request fails."""
        if model not in self._answer_bytes:
            self._answer_bytes[model] = self._ask(model)
            self._load(model, CONNECTIONS, self._warm_seconds)
        before = usage.of(self._pid).cpu_seconds
        load = self._load(model, connections, seconds)
        used = usage.of(self._pid).cpu_seconds - before
        per_request = used / load.requests if load.requests else float("inf")  # the first batch was too slow
        return Sample(load.requests / load.seconds, per_request * 1e3, load.p50_ms, load.p99_ms)

    def _load(self, model: str, connections: int, seconds: float) -> closed_loop.Load:
        load = closed_loop.grpc(
            f"http://127.0.0.1:{self._port}/{METHOD}",
            _message(model),
            answer_bytes=self._answer_bytes[model],
            connections=connections,
            seconds=seconds,
        )
        if load.failed:
            raise RuntimeError(f"{load.failed} of {load.requests} requests for {model} failed")
        return load

    def _ask(self, model: str) -> int:
        """The length of a right answer."""
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            answer: bytes = channel.unary_unary(f"/{METHOD}")(_message(model), timeout=60)
        return len(answer)


def _message(model: str) -> bytes:
    """A PredictRequest."""
    return WORKLOADS[f"{model}.grpc"].message


@contextmanager
def server(way: Fixed | str, models: Sequence[str], scratch: Path, warm_seconds: float) -> Iterator[Server]:
    """A server that batches in this way."""
    grpc_port = free_port()
    config = scratch / "models.config"
    config.write_text(
        "model_config_list {"
        + "".join(f'config {{ name: "{m}" base_path: "{base_path(m)}" model_platform: "tensorflow" }}' for m in models)
        + "}"
    )
    flags = [f"--automatic_batching={str(way == AUTOMATIC).lower()}"]
    if isinstance(way, Fixed):
        parameters = scratch / f"{grpc_port}.batching"
        parameters.write_text(way.text())
        flags += ["--enable_batching", f"--batching_parameters_file={parameters}"]
    command = [sys.executable, "-m", "pyserving.cli.model_server", "--accelerate=off", f"--port={grpc_port}"]
    with running(
        [*command, f"--model_config_file={config}", *flags], grpc_port, log=scratch / f"{grpc_port}.log"
    ) as pid:
        yield Server(pid, grpc_port, warm_seconds)


def sweep(models: Sequence[str], seconds: float, scratch: Path) -> dict[str, dict[Fixed, Sample]]:
    """Every fixed setting, by model."""
    found: dict[str, dict[Fixed, Sample]] = {model: {} for model in models}
    settings = [Fixed(*each) for each in itertools.product(SIZES, TIMEOUTS, THREADS)]
    for setting in track(settings, "sweeping"):
        with server(setting, models, scratch, 1) as started:
            for model in models:
                found[model][setting] = started.measure(model, CONNECTIONS, seconds)
    return found


def final(model: str, settings: Sequence[Fixed], seconds: float, rounds: int, scratch: Path) -> dict[str, list[Sample]]:
    """Samples by way and number of connections: ``automatic, 32``."""
    samples: dict[str, list[Sample]] = {}
    with ExitStack() as stack:
        runs = {}
        ways: list[Fixed | str] = [NONE, AUTOMATIC, *settings]
        for way in ways:
            started = stack.enter_context(server(way, [model], scratch, WARM_SECONDS))
            name = way.name if isinstance(way, Fixed) else way
            runs[f"{name}, {CONNECTIONS}"] = partial(started.measure, model, CONNECTIONS, seconds)
            if not isinstance(way, Fixed):
                runs[f"{name}, {LONE}"] = partial(started.measure, model, LONE, seconds)
        for name, sample in track(interleaved(runs, rounds), f"measuring {model}", total=rounds * len(runs)):
            samples.setdefault(name, []).append(sample)
    return samples


def report(model: str, samples: dict[str, list[Sample]], settings: Sequence[Fixed]) -> list[str]:
    def throughput(name: str) -> list[float]:
        return [sample.requests_per_second for sample in samples[name]]

    lines = [
        f"### {model}",
        "",
        "| batching, connections | requests/s, median | lowest to highest | CPU ms per request | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, rounds in samples.items():
        rates = spread(throughput(name))
        cpu = spread([sample.cpu_ms for sample in rounds]).median
        p50 = spread([sample.p50_ms for sample in rounds]).median
        p99 = spread([sample.p99_ms for sample in rounds]).median
        lines.append(
            f"| {name} | {rates.median:,.0f} | {rates.lowest:,.0f} to {rates.highest:,.0f} | {cpu:.2f} | {p50:.2f} | "
            f"{p99:.2f} |"
        )
    automatic, none = f"{AUTOMATIC}, {CONNECTIONS}", f"{NONE}, {CONNECTIONS}"
    best = max(
        (f"{setting.name}, {CONNECTIONS}" for setting in settings), key=lambda name: spread(throughput(name)).median
    )
    used = [[sample.cpu_ms for sample in samples[name]] for name in (automatic, best)]
    lone = [[sample.p50_ms for sample in samples[f"{way}, {LONE}"]] for way in (AUTOMATIC, NONE)]
    return [
        *lines,
        "",
        f"- automatic to the best fixed setting ({best}): {ratio(throughput(automatic), throughput(best)):.2f}",
        f"- the same, CPU time per request: {ratio(*used):.2f}",
        f"- automatic to none: {ratio(throughput(automatic), throughput(none)):.2f}",
        f"- p50 of a lone connection, automatic to none: {ratio(*lone):.2f}",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures automatic batching beside fixed settings.")
    parser.add_argument("--model", action="append", choices=MODELS, help="by default all")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if missing := closed_loop.missing_tools():
        raise SystemExit(f"this needs {' and '.join(missing)} (Debian packages wrk and nghttp2-client)")
    models = arguments.model or MODELS
    lines: list[str] = []
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        swept = sweep(models, arguments.seconds, scratch)
        for model in models:
            by_rate = sorted(swept[model], key=lambda each: -swept[model][each].requests_per_second)
            by_cpu = sorted(by_rate[MOST:], key=lambda each: swept[model][each].cpu_ms)
            best = [*by_rate[:MOST], *by_cpu[:LEAST_CPU]]
            samples = final(model, best, arguments.seconds, arguments.rounds, scratch)
            lines += report(model, samples, best)
            figures[model] = {
                "sweep": {setting.name: asdict(swept[model][setting]) for setting in by_rate},
                "samples": {name: [asdict(sample) for sample in each] for name, each in samples.items()},
            }
            write_results("batching", "\n".join(lines), figures)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
