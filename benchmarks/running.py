"""Servers as processes: a free port, a start that waits for the port, and an end that leaves nothing behind."""

import itertools
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import usage

ROOT = Path(__file__).resolve().parent.parent


_PORTS = range(20_000, 32_768)
"""Below those that Linux gives to whoever asks for any: one that is free stays so until its server is there."""
_places = itertools.count(secrets.randbelow(len(_PORTS)))
"""One after the other: none is given twice, and other processes have begun elsewhere."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago. Raises RuntimeError where there is none."""
    for place in itertools.islice(_places, len(_PORTS)):
        port = _PORTS[place % len(_PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")


@contextmanager
def running(
    command: Sequence[object],
    port: int,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    log: Path | None = None,
    seconds: float = 120,
) -> Iterator[int]:
    """A process that listens on ``port``, by its pid; at the end it and all its children are stopped.

    ``environment`` is put over this process's. What the process prints goes to ``log``, else nowhere.
    Raises RuntimeError, with the end of the log, if it has not opened the port after ``seconds``.
    """
    with log.open("wb") if log else open(os.devnull, "wb") as output:
        started = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for_port(started, port, seconds, log)
        yield started.pid
    finally:
        stop(started)


def wait_for_port(process: "subprocess.Popen[bytes]", port: int, seconds: float, log: Path | None = None) -> None:
    """Returns once ``port`` of 127.0.0.1 takes connections. Raises RuntimeError if the process ends or takes longer."""
    end = time.monotonic() + seconds
    while True:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        if process.poll() is not None or time.monotonic() > end:
            what = (
                f"ended with {process.returncode}" if process.returncode is not None else f"took over {seconds:.0f} s"
            )
            tail = log.read_text(errors="replace")[-2000:] if log and log.exists() else ""
            raise RuntimeError(f"the server on port {port} did not start: it {what}\n{tail}".rstrip())
        time.sleep(0.02)


def stop(process: "subprocess.Popen[bytes]", seconds: float = 30) -> None:
    """Ends a process by SIGTERM; what is left of it and of its children, after ``seconds`` at the latest, by force."""
    tree = usage.tree(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in tree:
        if usage.started(child.pid) == child.started:  # not another process that has got its id since
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
