"""What Ray Serve adds to a request, and what replicas bring: python -m benchmarks.ray_serve

Runs on Linux with the extra [ray], wrk and h2load. One run measures a direct server and Ray in turns, with the same
clients: first one request at a time, then as many as eight connections bring. Prints tables in Markdown.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import usage

_BODY = '{"instances": [[1.0], [2.0], [5.0]]}'
_BUSY = """
import time
import numpy as np
from pyserving import Model, Tensor

class Busy(Model):
    def predict(self, x: Tensor[np.float32, None, 1]) -> {{"y": Tensor[np.float32, None, 1]}}:
        end = time.thread_time() + {seconds}
        while time.thread_time() < end:
            pass
        return {{"y": x}}
"""

_SERVER = """
import sys
from benchmarks.ray_serve import serve_on_ray
serve_on_ray(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
"""


@dataclass(frozen=True, slots=True)
class Sample:
    rate: float
    """Requests per second."""
    median_ms: float
    cpu_ms: float
    """Of all processes of the server, per request."""


def serve_on_ray(folder: str, replicas: int, rest_port: int, grpc_port: int) -> None:
    """Serves the models in ``folder`` on a cluster of one node until stdin ends."""
    import ray

    from pyserving.platforms.python.options import PythonModels, PythonOptions
    from pyserving.protos import messages
    from pyserving.ray import run
    from pyserving.server.settings import Settings
    from pyserving.sources.model_config import ModelConfig

    options = messages.ModelOptions(ray=messages.RayOptions(num_cpus=0.1, replicas=replicas))
    models = [ModelConfig(path.name, str(path), options=options) for path in Path(folder).iterdir()]
    ray.init(include_dashboard=False, num_cpus=4, object_store_memory=80_000_000, log_to_driver=False)
    settings = Settings([], python_options=PythonOptions(PythonModels.ON))
    run(models, settings, rest_port=rest_port, grpc_port=grpc_port)
    print("ready", flush=True)
    sys.stdin.read()


@contextmanager
def direct(folder: Path, rest_port: int, grpc_port: int) -> Iterator[int]:
    """A server with these models; yields its pid."""
    command = [sys.executable, "-m", "pyserving.cli.main", "serve", str(folder), "--host", "127.0.0.1"]
    ports = ["--rest-port", str(rest_port), "--port", str(grpc_port)]
    process = subprocess.Popen([*command, *ports, "--python-models", "on"])
    ready = f"http://127.0.0.1:{rest_port}/readyz"
    try:
        subprocess.run(
            ["curl", "-sfo", "/dev/null", "--retry", "60", "--retry-all-errors", "--retry-delay", "1", ready],
            check=True,
        )
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def on_ray(folder: Path, replicas: int, rest_port: int, grpc_port: int) -> Iterator[int]:
    """The same on Ray."""
    command = [sys.executable, "-c", _SERVER, str(folder), str(replicas), str(rest_port), str(grpc_port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not any("ready" in line for line in process.stdout):
            raise RuntimeError("Ray did not start")
        yield process.pid
    finally:
        process.stdin.close()
        process.wait(60)


def cpu_seconds(pid: int) -> float:
    return sum(process.cpu_seconds for process in usage.tree(pid))


def rest(port: int, model: str, connections: int, seconds: int) -> tuple[float, float]:
    """Requests per second, and the median in milliseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'\nwrk.body = '{_BODY}'\n")
        script.flush()
        url = f"http://127.0.0.1:{port}/v1/models/{model}:predict"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout=60s", "-s", script.name]
        shown = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in shown:
        raise RuntimeError(shown)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", shown)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    assert median
    assert rate
    return float(rate[1]), float(median[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[median[2]]


def grpc(port: int, model: str, connections: int, seconds: int) -> tuple[float, float]:
    """The same over gRPC."""
    from grpc import insecure_channel

    from pyserving.protos import messages

    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=model))
    request.inputs["x"].dtype = messages.DataType.Value("DT_FLOAT")
    for size in (3, 1):
        request.inputs["x"].tensor_shape.dim.add(size=size)
    request.inputs["x"].float_val.extend([1.0, 2.0, 5.0])
    data = request.SerializeToString()
    method = "/tensorflow.serving.PredictionService/Predict"
    with insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary(method)(data, timeout=30)  # h2load does not look at the status
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(b"\0" + len(data).to_bytes(4, "big") + data)
        command = ["h2load", f"-c{connections}", "-m1", f"-D{seconds}", "-d", str(body), f"--log-file={log}"]
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        url = f"http://127.0.0.1:{port}{method}"
        subprocess.run([*command, *headers, url], capture_output=True, check=True)
        lines = [line.split("\t") for line in log.read_text().splitlines()]
    micros = [int(line[2]) for line in lines if line[1] == "200"]
    return len(micros) / seconds, statistics.median(micros) / 1e3


def measure(pid: int, transport: str, port: int, model: str, connections: int, seconds: int) -> Sample:
    call = {"REST": rest, "gRPC": grpc}[transport]
    call(port, model, connections, 2)
    before, start = cpu_seconds(pid), time.monotonic()
    rate, median = call(port, model, connections, seconds)
    used, took = cpu_seconds(pid) - before, time.monotonic() - start
    return Sample(rate, median, used * seconds / took / (rate * seconds) * 1e3)


def overhead(folder: Path, seconds: int, model: str) -> list[str]:
    lines = ["| | connections | median ms | requests/s | CPU ms per request |", "|---|---|---|---|---|"]
    with direct(folder, 18501, 18500) as server, on_ray(folder, 1, 18601, 18600) as ray:
        for transport in ("REST", "gRPC"):
            for connections in (1, 8):
                for name, pid, base in (("direct", server, 18500), ("Ray Serve", ray, 18600)):
                    port = base + (transport == "REST")
                    found = measure(pid, transport, port, model, connections, seconds)
                    lines.append(
                        f"| {transport}, {name} | {connections} | {found.median_ms:.2f} | {found.rate:,.0f} | "
                        f"{found.cpu_ms:.3f} |"
                    )
    return lines


def scaling(folder: Path, seconds: int, models: Sequence[str]) -> list[str]:
    lines = ["| | " + " | ".join(models) + " |", "|---|" + "---|" * len(models)]
    with direct(folder, 18501, 18500) as server:
        rates = [measure(server, "REST", 18501, model, 8, seconds).rate for model in models]
        lines.append("| direct, one process | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")
    for replicas in (1, 2, 3):
        with on_ray(folder, replicas, 18601, 18600) as ray:
            rates = [measure(ray, "REST", 18601, model, 8, seconds).rate for model in models]
        lines.append(f"| Ray, replicas: {replicas} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("half_plus_two", type=Path, help="its base path")
    parser.add_argument("--seconds", type=int, default=6, help="of each measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "half_plus_two").symlink_to(options.half_plus_two.resolve())
        (folder / "busy" / "1").mkdir(parents=True)
        (folder / "busy" / "1" / "model.py").write_text(_BUSY.format(seconds=0.02))
        print("\n".join(overhead(folder, options.seconds, "half_plus_two")), flush=True)
        print("\n".join(["", *scaling(folder, options.seconds, ["half_plus_two", "busy"])]), flush=True)


if __name__ == "__main__":
    main()
