"""Closed-loop load by wrk (HTTP/1.1) and h2load (gRPC): each connection sends its next request when it has its answer.

That finds the throughput. Its latencies leave out the time a request would have waited to be sent: open_loop.py counts
that too.
"""

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_ANSWER_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Load:
    requests: int
    """Answered, the failed ones included."""
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float


def missing_tools() -> list[str]:
    return [tool for tool in ("wrk", "h2load") if shutil.which(tool) is None]


def http(url: str, body: bytes, *, connections: int, seconds: float) -> Load:
    """POSTs ``body`` as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        content, script = Path(folder, "body"), Path(folder, "post.lua")
        content.write_bytes(body)
        script.write_text(
            f'local file = io.open("{content}", "rb")\n'
            'wrk.method, wrk.body = "POST", file:read("*a")\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
        )
        text = _run(
            "wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--latency", f"--timeout={_ANSWER_SECONDS}s",
            "-s", str(script), url,
        )  # fmt: skip
    return parse_wrk(text)


def grpc(url: str, message: bytes, *, answer_bytes: int, connections: int, seconds: float, streams: int = 1) -> Load:
    """Unary calls with ``message``, so many streams at once on each connection.

    ``answer_bytes`` is the length of a good answer's message: a call that fails has status 200 as well and no message.
    """
    with tempfile.TemporaryDirectory() as folder:
        content, log = Path(folder, "body"), Path(folder, "log")
        content.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
        text = _run(
            "h2load", f"-D{round(seconds)}", f"-c{connections}", f"-m{streams}", f"--log-file={log}",
            "-d", str(content), "-H", "content-type: application/grpc", "-H", "te: trailers", url,
        )  # fmt: skip
        return parse_h2load(text, log.read_text(), answer_bytes)


def parse_wrk(text: str) -> Load:
    """Reads what ``wrk --latency`` prints. Raises ValueError if that is not it."""
    requests, seconds = _find(r"(\d+) requests in ([\d.]+\w+),", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    failed = (int(bad[1]) if bad else 0) + (sum(map(int, errors.groups())) if errors else 0)
    p50, p99 = (_seconds(_find(rf"^ +{percent}% +([\d.]+\w+) *$", text)[0]) * 1e3 for percent in (50, 99))
    return Load(int(requests), failed, _seconds(seconds), p50, p99)


def parse_h2load(text: str, log: str, answer_bytes: int) -> Load:
    """Reads what h2load prints, and its log file: a line for each request, with its microseconds in the third column.

    Raises ValueError if that is not it.
    """
    (seconds,) = _find(r"finished in ([\d.]+\w+),", text)
    done, succeeded = map(int, _find(r"(\d+) done, (\d+) succeeded", text))
    (data,) = map(int, _find(r"\((\d+)\) data", text))
    whole = min(succeeded, data // (answer_bytes + 5))  # gRPC puts a flag and a length before each message
    times = sorted(int(line.split("\t")[2]) / 1e3 for line in log.splitlines())
    return Load(done, done - whole, _seconds(seconds), percentile(times, 50), percentile(times, 99))


def percentile(values: Sequence[float], percent: float) -> float:
    """Of ascending values, by the nearest rank; nan if there are none."""
    if not values:
        return float("nan")
    return values[max(0, min(len(values), -int(-len(values) * percent // 100)) - 1)]


def _seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _SECONDS[unit]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _find(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise ValueError(f"no {pattern} in:\n{text}")
    return match.groups()
