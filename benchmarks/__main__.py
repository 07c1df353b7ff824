"""Measures half_plus_two beside its floors, interleaved and repeated, and prints a table in Markdown.

python -m benchmarks      (or: make bench); writes benchmarks/results/half_plus_two.{md,json}
"""

import json
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.progress import track

from benchmarks import load
from pyserving.protos import messages

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MODELS = ROOT / "demo-models"
ROUNDS = 5
BODY = '{"instances":[1.0,2.0,5.0]}'
METHOD = "tensorflow.serving.PredictionService/Predict"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(*arguments: object, port: int) -> Iterator[int]:
    """A Python process that listens on ``port``, by its pid; stopped at the end."""
    started = subprocess.Popen([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if started.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{arguments} did not start") from None
                time.sleep(0.05)
        yield started.pid
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(30)


def message() -> bytes:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="half_plus_two"))
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=3)
    tensor.float_val.extend([1.0, 2.0, 5.0])
    return request.SerializeToString()


def ask(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/v1/models/half_plus_two:predict"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, BODY.encode()), timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def seconds_to_first_answer() -> float:
    """From the start of the process to the first answer of half_plus_two."""
    rest = free_port()
    begin = time.monotonic()
    started = subprocess.Popen(
        [sys.executable, "-m", "pyserving.cli.model_server", "--port=0", f"--rest_api_port={rest}",
         "--model_name=half_plus_two", f"--model_base_path={MODELS / 'half_plus_two'}"],
        cwd=ROOT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not ask(rest):
            if started.poll() is not None or time.monotonic() > begin + 60:
                raise RuntimeError("the server did not start")
            time.sleep(0.005)
        return time.monotonic() - begin
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(30)


def main() -> None:
    load.require_tools()
    if not (MODELS / "half_plus_two" / "1").exists():
        subprocess.run([sys.executable, ROOT / "examples" / "demo" / "train.py", "half_plus_two", MODELS], check=True)
    starts = [seconds_to_first_answer() for _ in track(range(3), "starting")]
    with ExitStack() as stack:
        rest, grpc, echo_rest, echo_grpc, grpcio = (free_port() for _ in range(5))
        ours = stack.enter_context(
            process(
                "pyserving.cli.model_server", f"--port={grpc}", f"--rest_api_port={rest}", "--model_name=half_plus_two",
                f"--model_base_path={MODELS / 'half_plus_two'}", port=rest,
            )
        )  # fmt: skip
        echo = stack.enter_context(process("benchmarks.echo", echo_rest, echo_grpc, port=echo_grpc))
        other = stack.enter_context(
            process("benchmarks.grpcio_server", grpcio, MODELS / "half_plus_two" / "1", port=grpcio)
        )
        path = "v1/models/half_plus_two:predict"
        runs = {
            "REST echo": lambda: load.http(f"http://127.0.0.1:{echo_rest}/{path}", BODY, echo),
            "REST predict": lambda: load.http(f"http://127.0.0.1:{rest}/{path}", BODY, ours),
            "gRPC echo": lambda: load.grpc(f"http://127.0.0.1:{echo_grpc}/{METHOD}", message(), echo),
            "gRPC predict": lambda: load.grpc(f"http://127.0.0.1:{grpc}/{METHOD}", message(), ours),
            "gRPC predict by grpcio": lambda: load.grpc(
                f"http://127.0.0.1:{grpcio}/{METHOD}", message(), other, requests=8_000
            ),
        }
        results: dict[str, list[load.Result]] = {name: [] for name in runs}
        for _ in track(range(ROUNDS), "measuring"):
            for name, run in runs.items():
                results[name].append(run())
        memory = load.resident_mb(ours)
    report(results, starts, memory)


def report(results: dict[str, list[load.Result]], starts: list[float], memory: float) -> None:
    def ratio(a: str, b: str) -> float:
        return statistics.median(
            x.requests_per_second / y.requests_per_second for x, y in zip(results[a], results[b], strict=True)
        )

    rest, floor, grpcio = (
        ratio("REST predict", "REST echo"),
        ratio("gRPC predict", "gRPC echo"),
        ratio("gRPC predict", "gRPC predict by grpcio"),
    )
    lines = [
        "| half_plus_two, 8 connections | requests/s, median | lowest to highest | server CPU s per 100k | failed |",
        "|---|---|---|---|---|",
    ]
    for name, rounds in results.items():
        rates = sorted(result.requests_per_second for result in rounds)
        cpu = statistics.median(result.cpu_seconds_per_100k for result in rounds)
        lines.append(
            f"| {name} | {statistics.median(rates):,.0f} | {rates[0]:,.0f} to {rates[-1]:,.0f} | {cpu:.1f} | "
            f"{sum(result.failed for result in rounds)} |"
        )
    lines += [
        "",
        f"Ratios, the median of {ROUNDS} rounds, each measured within its round:",
        "",
        f"- REST predict to REST echo: {rest:.2f}",
        f"- gRPC predict to gRPC echo: {floor:.2f}",
        f"- gRPC predict to the same by a grpcio server: {grpcio:.1f}",
        "",
        f"Process start to first answer: {', '.join(f'{seconds:.2f}' for seconds in starts)} s. "
        f"Resident memory after the load: {memory:.0f} MB.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "half_plus_two.md").write_text(text)
    figures = {
        "results": {
            name: [[r.requests_per_second, r.cpu_seconds_per_100k, r.failed] for r in rounds]
            for name, rounds in results.items()
        },
        "seconds_to_first_answer": starts,
        "resident_mb": memory,
    }
    (RESULTS / "half_plus_two.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
