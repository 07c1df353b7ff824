"""Whether millions of requests, over versions that come and go, leave memory or open files behind.

python -m benchmarks.soak [--requests 5000000] [--seconds 20]   writes benchmarks/results/soak.{md,json}

One server. In each round wrk asks a copy of half_plus_two over REST and h2load over gRPC, while new versions of it take
the place of old ones without a pause. After the round, when one version is left, RSS, open files and threads are
counted. The first tenth of the requests is the warm-up.
"""

import argparse
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import grpc as grpcio

from benchmarks import closed_loop
from benchmarks.changing_model import CHANGING, ChangingServer, steady_base_path
from benchmarks.result_files import write_results
from pyserving.protos import messages

WARM_UP = 0.1


@dataclass(frozen=True, slots=True)
class Round:
    """What holds after it, since the start."""

    requests: int
    failed: int
    """As the clients count; a request is not counted twice where the server's metrics tell of an error as well."""
    swaps: int
    resident_mb: float
    open_files: int
    threads: int


def rounds(requests: int, seconds: float) -> Iterator[Round]:
    """Rounds of so many seconds each, up to so many requests in all."""
    with ChangingServer(steady_base_path() / "1", "--no-console") as server:
        server.add()
        done = failed = swaps = 0
        message = _request()
        answer_bytes = _length_of_answer(server.grpc, message)
        while done < requests:
            stopped = threading.Event()
            with ThreadPoolExecutor(3) as pool:
                swapping = pool.submit(_swap, server, stopped)
                rest = pool.submit(
                    closed_loop.http, f"http://127.0.0.1:{server.rest}/v1/models/{CHANGING}:predict",
                    b'{"instances": [1.0, 2.0, 5.0]}', connections=16, seconds=seconds,
                )  # fmt: skip
                rpc = pool.submit(
                    closed_loop.grpc, f"http://127.0.0.1:{server.grpc}/tensorflow.serving.PredictionService/Predict",
                    message, answer_bytes=answer_bytes, connections=4, streams=16, seconds=seconds,
                )  # fmt: skip
                try:
                    loads = [rest.result(), rpc.result()]
                finally:
                    stopped.set()
                swaps += swapping.result()
            done += sum(load.requests for load in loads)
            failed += sum(load.failed for load in loads)
            errors = max(failed, _errors(server.rest))
            yield Round(done, errors, swaps, server.resident_mb(), server.open_files(), server.threads())


def after_warm_up(results: list[Round]) -> list[Round]:
    """The last of the warm-up, and those after it."""
    total = results[-1].requests
    first = next(number for number, result in enumerate(results) if result.requests >= WARM_UP * total)
    return results[first:]


def growth(results: list[Round]) -> float:
    """Of the RSS since the warm-up, as a share."""
    counted = after_warm_up(results)
    return counted[-1].resident_mb / counted[0].resident_mb - 1


def report(results: list[Round]) -> str:
    lines = ["| requests | failed | swaps | RSS, MB | open files | threads |", "|---|---|---|---|---|---|"]
    step = max(1, len(results) // 8)
    for number, one in enumerate(results):
        if number % step == 0 or one is results[-1]:
            counts = f"| {one.requests:,} | {one.failed} | {one.swaps:,} "
            lines.append(counts + f"| {one.resident_mb:.1f} | {one.open_files} | {one.threads} |")
    lines += ["", f"Growth of RSS since {after_warm_up(results)[0].requests:,} requests: {growth(results):+.2%}."]
    return "\n".join(lines) + "\n"


def write(results: list[Round]) -> None:
    write_results("soak", report(results), [asdict(result) for result in results])


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory, open files and threads after millions of requests.")
    parser.add_argument("--requests", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a round")
    given = parser.parse_args()
    if missing := closed_loop.missing_tools():
        raise SystemExit(f"this needs {' and '.join(missing)} (Debian packages wrk and nghttp2-client)")
    results = []
    for result in rounds(given.requests, given.seconds):
        results.append(result)
        print(result, flush=True)
    write(results)
    print(report(results))


def _swap(server: ChangingServer, stopped: threading.Event) -> int:
    """Puts the next version in the place of the one before, again and again; how often."""
    swaps = 0
    while not stopped.is_set():
        server.add()
        server.unloaded(before=1)
        swaps += 1
    return swaps


def _request() -> bytes:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=CHANGING))
    request.inputs["x"].CopyFrom(messages.TensorProto(dtype=1, float_val=[1.0, 2.0, 5.0]))
    request.inputs["x"].tensor_shape.dim.add(size=3)
    return request.SerializeToString()


def _length_of_answer(port: int, message: bytes) -> int:
    with grpcio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return len(channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(message, timeout=30))


def _errors(port: int) -> int:
    """Requests to the model that the server did not answer well, by its own account; those do not count that h2load has
    given up as its time was over."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/monitoring/prometheus/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    counts = [line for line in lines if line.startswith(":tensorflow:serving:request_count{") and CHANGING in line]
    assert counts, "the server counts its requests"
    return sum(
        int(float(line.rpartition(" ")[2])) for line in counts if 'status="OK"' not in line and "CANCELLED" not in line
    )


if __name__ == "__main__":
    main()
