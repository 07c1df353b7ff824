"""Load by wrk and h2load, and what it costs the server."""

import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SECONDS = 4


@dataclass(frozen=True, slots=True)
class Result:
    requests_per_second: float
    cpu_seconds_per_100k: float
    """Of the server, user and system."""
    failed: int


def require_tools() -> None:
    missing = [tool for tool in ("wrk", "h2load") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"make bench needs {' and '.join(missing)} (Debian packages wrk and nghttp2-client)")


def http(url: str, body: str, pid: int, connections: int = 8) -> Result:
    """POSTs ``body`` for SECONDS, each connection waiting for its answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "POST"\nwrk.body = [[{body}]]\nwrk.headers["Content-Type"] = "application/json"\n')
        script.flush()
        before = cpu_seconds(pid)
        text = _run("wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", "-s", script.name, url)
        used = cpu_seconds(pid) - before
    requests = int(_find(r"(\d+) requests in", text))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Result(float(_find(r"Requests/sec:\s*([\d.]+)", text)), used / requests * 1e5, int(bad[1]) if bad else 0)


def grpc(url: str, message: bytes, pid: int, clients: int = 8, streams: int = 1, requests: int = 30_000) -> Result:
    """Unary calls with ``message``, so many at once on each of the clients' connections."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + struct.pack(">I", len(message)) + message)
        body.flush()
        before = cpu_seconds(pid)
        text = _run(
            "h2load", f"-n{requests}", f"-c{clients}", f"-m{streams}", "-d", body.name,
            "-H", "content-type: application/grpc", "-H", "te: trailers", url,
        )  # fmt: skip
        used = cpu_seconds(pid) - before
    failed = requests - int(_find(r"(\d+) succeeded", text))
    return Result(float(_find(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)), used / requests * 1e5, failed)


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"no {pattern} in:\n{text}")
    return match[1]
