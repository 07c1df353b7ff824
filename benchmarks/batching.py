"""How requests are best joined: automatic batching beside TensorFlow Serving's parameters, over gRPC.

    python -m benchmarks.batching [--seconds 3] [--rounds 5] [--model mnist] ...

First a sweep: each fixed setting is measured once, under load from many connections. Then the best few of each model
are measured again, interleaved with automatic batching and with none, under the same load and with a lone connection.
Writes benchmarks/results/batching.{md,json}.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import grpc
import numpy as np
from rich.progress import track

from benchmarks import closed_loop, usage
from benchmarks.rounds import interleaved, ratio, spread
from benchmarks.running import ROOT, free_port, running
from pyserving.protos import messages

RESULTS = ROOT / "benchmarks" / "results"
MODELS = RESULTS / "models"
METHOD = "tensorflow.serving.PredictionService/Predict"
SHAPES = {"half_plus_two": (3,), "mnist": (1, 28, 28, 1), "mobilenet_v2": (1, 224, 224, 3)}
"""Of the input of one request."""

SIZES, TIMEOUTS, THREADS = (4, 8, 16, 32, 64), (0, 1000, 5000), (1, 2, 4)
FINALISTS = 3
LONE = 1

NONE, AUTOMATIC = "none", "automatic"
Flags = Sequence[str]


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

    def __init__(self, pid: int, port: int) -> None:
        self._pid, self._port = pid, port
        self._answer_bytes: dict[str, int] = {}

    def measure(self, model: str, connections: int, seconds: float) -> Sample:
        """Raises RuntimeError where a request fails."""
        if model not in self._answer_bytes:
            self._answer_bytes[model] = self._ask(model)
            self._load(model, connections, 2)  # what a call costs is learned from the first ones
        before = usage.of(self._pid).cpu_seconds
        load = self._load(model, connections, seconds)
        used = usage.of(self._pid).cpu_seconds - before
        return Sample(load.requests / load.seconds, used / load.requests * 1e3, load.p50_ms, load.p99_ms)

    def _load(self, model: str, connections: int, seconds: float) -> closed_loop.Load:
        load = closed_loop.grpc(
            f"http://127.0.0.1:{self._port}/{METHOD}",
            request(model),
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
            answer: bytes = channel.unary_unary(f"/{METHOD}")(request(model), timeout=60)
        return len(answer)


def request(model: str) -> bytes:
    """A PredictRequest with random values: few as ``float_val``, many as ``tensor_content``."""
    saved = messages.SavedModel.FromString((MODELS / model / "1" / "saved_model.pb").read_bytes())
    (name,) = saved.meta_graphs[0].signature_def["serving_default"].inputs
    values = np.random.default_rng(1).random(SHAPES[model], np.float32)
    message = messages.PredictRequest(model_spec=messages.ModelSpec(name=model))
    tensor = message.inputs[name]
    tensor.dtype = 1
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    if values.size < 16:
        tensor.float_val.extend(values.ravel().tolist())
    else:
        tensor.tensor_content = values.tobytes()
    return message.SerializeToString()


@contextmanager
def server(way: "Fixed | str", scratch: Path, models: Sequence[str]) -> Iterator[Server]:
    """A server that batches in this way."""
    grpc_port = free_port()
    config = scratch / "models.config"
    config.write_text(
        "model_config_list {"
        + "".join(f'config {{ name: "{m}" base_path: "{MODELS / m}" model_platform: "tensorflow" }}' for m in models)
        + "}"
    )
    flags = [f"--automatic_batching={str(way == AUTOMATIC).lower()}"]
    if isinstance(way, Fixed):
        parameters = scratch / f"{grpc_port}.batching"
        parameters.write_text(way.text())
        flags += ["--enable_batching", f"--batching_parameters_file={parameters}"]
    command = [sys.executable, "-m", "pyserving.cli.model_server", f"--port={grpc_port}"]
    with running(
        [*command, f"--model_config_file={config}", *flags], grpc_port, log=scratch / f"{grpc_port}.log"
    ) as pid:
        yield Server(pid, grpc_port)


def sweep(models: Sequence[str], connections: int, seconds: float, scratch: Path) -> dict[str, dict[Fixed, float]]:
    """Requests per second of every fixed setting, by model."""
    found: dict[str, dict[Fixed, float]] = {model: {} for model in models}
    settings = [Fixed(*each) for each in itertools.product(SIZES, TIMEOUTS, THREADS)]
    for setting in track(settings, "sweeping"):
        with server(setting, scratch, models) as running_server:
            for model in models:
                found[model][setting] = running_server.measure(model, connections, seconds).requests_per_second
    return found


def final(
    model: str, settings: Sequence[Fixed], connections: int, seconds: float, rounds: int, scratch: Path
) -> dict[str, list[Sample]]:
    """Samples by way and number of connections: ``automatic, 32``."""
    samples: dict[str, list[Sample]] = {}
    with ExitStack() as stack:
        runs = {}
        for way in (NONE, AUTOMATIC, *settings):
            started = stack.enter_context(server(way, scratch, [model]))
            name = way.name if isinstance(way, Fixed) else way
            runs[f"{name}, {connections}"] = partial(started.measure, model, connections, seconds)
            if not isinstance(way, Fixed):
                runs[f"{name}, {LONE}"] = partial(started.measure, model, LONE, seconds)
        for name, sample in track(interleaved(runs, rounds), f"measuring {model}", total=rounds * len(runs)):
            samples.setdefault(name, []).append(sample)
    return samples


def report(model: str, samples: dict[str, list[Sample]], settings: Sequence[Fixed], connections: int) -> list[str]:
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
    automatic, none = f"{AUTOMATIC}, {connections}", f"{NONE}, {connections}"
    best = max(
        (f"{setting.name}, {connections}" for setting in settings), key=lambda name: spread(throughput(name)).median
    )
    lone = [[sample.p50_ms for sample in samples[f"{way}, {LONE}"]] for way in (AUTOMATIC, NONE)]
    return [
        *lines,
        "",
        f"- automatic to the best fixed setting ({best}): {ratio(throughput(automatic), throughput(best)):.2f}",
        f"- automatic to none: {ratio(throughput(automatic), throughput(none)):.2f}",
        f"- p50 of a lone connection, automatic to none: {ratio(*lone):.2f}",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures automatic batching beside fixed settings.")
    parser.add_argument("--model", action="append", choices=SHAPES, help="by default all")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if missing := closed_loop.missing_tools():
        raise SystemExit(f"this needs {' and '.join(missing)} (Debian packages wrk and nghttp2-client)")
    models = arguments.model or list(SHAPES)
    if absent := [model for model in models if not (MODELS / model / "1").exists()]:
        subprocess.run([sys.executable, "-m", "benchmarks.models", MODELS, *absent], check=True, cwd=ROOT)
    lines, figures = [], {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        swept = sweep(models, arguments.connections, arguments.seconds, scratch)
        for model in models:
            settings = sorted(swept[model], key=lambda setting: -swept[model][setting])
            best = settings[:FINALISTS]
            samples = final(model, best, arguments.connections, arguments.seconds, arguments.rounds, scratch)
            lines += report(model, samples, best, arguments.connections)
            figures[model] = {
                "sweep": {setting.name: swept[model][setting] for setting in settings},
                "samples": {name: [asdict(sample) for sample in each] for name, each in samples.items()},
            }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "batching.md").write_text("\n".join(lines))
    (RESULTS / "batching.json").write_text(json.dumps(figures, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
