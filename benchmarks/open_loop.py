"""Open-loop load: requests leave at a fixed rate, whether or not the ones before were answered.

python -m benchmarks.open_loop http://127.0.0.1:8501/v1/models/half_plus_two:predict --rate 500 --seconds 10
python -m benchmarks.open_loop grpc://127.0.0.1:8500/tensorflow.serving.PredictionService/Predict --body request.pb

A latency counts from the time at which the request was due to leave, so waiting counts: for a server that is late,
and for a connection. A closed loop (wrk, h2load) asks less while the server is slow, and so hides its stalls.

One thread on plain sockets, in a process of its own (``start``), at real-time priority where that is allowed. Its own
lateness is measured, too: a machine so busy that the generator itself has to wait tells little about the server.
"""

import argparse
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import httptools
import ngh2
import numpy as np

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
HALF_PLUS_TWO = b'{"instances":[1.0,2.0,5.0]}'

_PATIENCE = 10.0
"""Seconds that are waited for the last answers."""
_READ = 1 << 18
_WINDOW = 1 << 26
_PR_SET_TIMERSLACK = 29


@dataclass(frozen=True, slots=True)
class Latencies:
    """What became of the requests of one run, in the order in which they were due."""

    due: np.ndarray
    """When each was to leave, in seconds on the clock of ``time.monotonic``, which all processes share."""
    seconds: np.ndarray
    """From then until its answer was read; infinite where none came."""
    late: np.ndarray
    """Of this, until it was handed to a connection: what the generator itself is to blame for."""
    failed: np.ndarray
    """bool: it was not answered, or not by 200 or OK."""
    cpu_seconds: float
    """What the generator used."""

    def percentiles(self, percents: Sequence[float] = PERCENTILES) -> list[float]:
        """Seconds, one for each of ``percents``; NaN where there is no request."""
        if not len(self.seconds):
            return [float("nan")] * len(percents)
        # Not interpolated: a value that was measured, and infinite where so many answers did not come.
        return [float(value) for value in np.percentile(self.seconds, percents, method="higher")]

    def between(self, start: float, end: float) -> "Latencies":
        """Those due from ``start`` to ``end``."""
        chosen = (self.due >= start) & (self.due < end)
        return self._of(chosen)

    def during(self, spans: Sequence[tuple[float, float]]) -> "Latencies":
        """Those due within one of the spans."""
        chosen = np.zeros(len(self.due), bool)
        for start, end in spans:
            chosen |= (self.due >= start) & (self.due < end)
        return self._of(chosen)

    def _of(self, chosen: np.ndarray) -> "Latencies":
        return Latencies(
            self.due[chosen], self.seconds[chosen], self.late[chosen], self.failed[chosen], self.cpu_seconds
        )

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, due=self.due, seconds=self.seconds, late=self.late, failed=self.failed, cpu=self.cpu_seconds)

    @classmethod
    def read(cls, path: Path) -> "Latencies":
        with np.load(path) as stored:
            return cls(stored["due"], stored["seconds"], stored["late"], stored["failed"], float(stored["cpu"]))

    def summary(self) -> dict[str, float]:
        """Times in milliseconds."""
        times = {
            f"p{percent:g}": seconds * 1e3 for percent, seconds in zip(PERCENTILES, self.percentiles(), strict=True)
        }
        count = len(self.seconds)
        return {
            "requests": count,
            "failed": int(self.failed.sum()),
            **times,
            "max": float(self.seconds.max(initial=0.0)) * 1e3,
            "generator late p99": float(np.percentile(self.late, 99)) * 1e3 if count else float("nan"),
            "generator cpu µs per request": self.cpu_seconds / max(1, count) * 1e6,
        }


class Running:
    """A generator in a process of its own."""

    def __init__(
        self, url: str, body: bytes, rate: float, seconds: float, connections: int, deadline: float | None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="open-loop-")
        folder = Path(self._folder.name)
        (folder / "body").write_bytes(body)
        self._saved = folder / "latencies.npz"
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks.open_loop", url, f"--rate={rate}", f"--seconds={seconds}",
                f"--connections={connections}", f"--body={folder / 'body'}", f"--save={self._saved}",
                *([] if deadline is None else [f"--deadline={deadline}"]),
            ],
            cwd=Path(__file__).resolve().parent.parent,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def result(self) -> Latencies:
        """Waits for its end. Raises RuntimeError where it failed."""
        try:
            code = self._process.wait()
            if code:
                raise RuntimeError(f"the load generator ended with code {code}")
            return Latencies.read(self._saved)
        finally:
            self._folder.cleanup()

    def finish(self) -> Latencies:
        """Sends nothing more, waits for the last answers: the result up to now."""
        self._process.send_signal(signal.SIGINT)
        return self.result()

    def stop(self) -> None:
        """Ends it before its time; there is no result then."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def start(
    url: str, body: bytes, *, rate: float, seconds: float, connections: int = 64, deadline: float | None = None
) -> Running:
    """Begins to send ``body`` in a new process, for half a second later than now, as ``run`` does."""
    return Running(url, body, rate, seconds, connections, deadline)


def run(
    url: str,
    body: bytes,
    *,
    rate: float,
    seconds: float,
    connections: int = 64,
    deadline: float | None = None,
    stop: threading.Event | None = None,
) -> Latencies:
    """Sends ``body`` to ``url`` so many times per second, on this thread, and returns when all is answered.

    ``http://host:port/path``: POSTs JSON, on connections of HTTP/1.1. ``grpc://host:port/Service/Method``: a unary
    call of the message ``body``, on connections of HTTP/2. A request takes the connection that was used last of
    those that are idle; where all are busy a new one, up to ``connections``; then it waits, or, over gRPC, takes the
    one with the fewest calls. ``deadline``: seconds that the server is told it has for each. Once ``stop`` is set
    nothing more is sent.
    """
    _set_timer_slack()
    target = urlsplit(url)
    count = max(1, round(rate * seconds))
    clients = _Clients(target, body, connections, deadline)
    clients.open_one()
    taken = np.full(count, np.inf)
    late = np.zeros(count)
    failed = np.ones(count, bool)
    used = time.process_time()
    begin = time.monotonic() + 0.01
    next_one = answered = 0
    last = begin + (count - 1) / rate
    try:
        while answered < count:
            now = time.monotonic()
            if stop is not None and stop.is_set() and next_one < count:
                count = next_one
                last = now
            while next_one < count and begin + next_one / rate <= now:
                late[next_one] = now - (begin + next_one / rate)
                clients.send(next_one)
                next_one += 1
                now = time.monotonic()
            if now > last + _PATIENCE:
                break
            wait = begin + next_one / rate - now if next_one < count else last + _PATIENCE - now
            for number, well in clients.receive(max(0.0, wait)):
                taken[number] = time.monotonic() - (begin + number / rate)
                failed[number] = not well
                answered += 1
    finally:
        clients.close()
    used = time.process_time() - used
    due = begin + np.arange(count) / rate
    return Latencies(due, taken[:count], late[:count], failed[:count], used)


class _Protocol(Protocol):
    """Requests to bytes, bytes to answers."""

    pending: deque[int]
    """The numbers of the requests that are not answered."""
    ended: bool
    """The server takes no further request on this connection."""

    def request(self, number: int) -> bytes: ...

    def receive(self, data: bytes) -> tuple[list[tuple[int, bool]], bytes]:
        """Which requests were answered, whether well; and what is to be sent."""
        ...


class _Http1:
    """One request at a time."""

    def __init__(self, target: SplitResult, body: bytes, timeout: str) -> None:
        head = (
            f"POST {target.path or '/'} HTTP/1.1\r\nHost: {target.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        head += f"Grpc-Timeout: {timeout}\r\n\r\n" if timeout else "\r\n"
        self._request = head.encode() + body
        self._parser = httptools.HttpResponseParser(self)
        self._complete = False
        self.ended = False
        self.pending: deque[int] = deque()

    def request(self, number: int) -> bytes:
        self.pending.append(number)
        return self._request

    def on_message_complete(self) -> None:
        self._complete = True
        self.ended = not self._parser.should_keep_alive()

    def receive(self, data: bytes) -> tuple[list[tuple[int, bool]], bytes]:
        self._parser.feed_data(data)
        if not self._complete:
            return [], b""
        self._complete = False
        well = self._parser.get_status_code() == 200
        return [(self.pending.popleft(), well)], b""


class _Grpc:
    """Any number of calls at a time."""

    def __init__(self, target: SplitResult, body: bytes, timeout: str) -> None:
        self._h2 = ngh2.Connection(ngh2.Role.CLIENT)
        self._h2.initiate_connection({ngh2.Setting.INITIAL_WINDOW_SIZE: _WINDOW})
        self._h2.set_local_window_size(_WINDOW)
        self._headers = [
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", target.path.encode()),
            (b":authority", target.netloc.encode()), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
        ]  # fmt: skip
        if timeout:
            self._headers.append((b"grpc-timeout", timeout.encode()))
        self._message = b"\0" + len(body).to_bytes(4, "big") + body
        self._numbers: dict[int, int] = {}
        self._well: set[int] = set()
        self.ended = False
        self.pending: deque[int] = deque()

    def request(self, number: int) -> bytes:
        stream = self._h2.send_request(self._headers)
        self._h2.send_data(stream, self._message, end_stream=True)
        self._numbers[stream] = number
        self.pending.append(number)
        return self._h2.data_to_send()

    def receive(self, data: bytes) -> tuple[list[tuple[int, bool]], bytes]:
        self._h2.receive_data(data)
        out = self._h2.data_to_send()
        answers = []
        for event in self._h2.events():
            if isinstance(event, ngh2.TrailersReceived | ngh2.ResponseReceived):
                if (b"grpc-status", b"0") in event.headers:
                    self._well.add(event.stream_id)
            elif isinstance(event, ngh2.StreamClosed):
                number = self._numbers.pop(event.stream_id)
                self.pending.remove(number)
                answers.append((number, event.stream_id in self._well))
                self._well.discard(event.stream_id)
        return answers, out + self._h2.data_to_send()


class _Connection:
    """A socket that never blocks, and the protocol on it."""

    def __init__(self, target: SplitResult, body: bytes, timeout: str) -> None:
        """``timeout``: in gRPC's format; empty: none."""
        kind = _Grpc if target.scheme == "grpc" else _Http1
        self.protocol: _Protocol = kind(target, body, timeout)
        self.socket = socket.create_connection((target.hostname, target.port), timeout=_PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent = memoryview(b"")

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def busy(self) -> int:
        return len(self.protocol.pending)

    def send(self, data: bytes) -> None:
        if self.unsent:
            data = bytes(self.unsent) + data
        self.unsent = memoryview(data)
        self.send_more()

    def send_more(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.unsent = self.unsent[self.socket.send(self.unsent) :]


class _Clients:
    """The connections, and the requests that wait for one."""

    def __init__(self, target: SplitResult, body: bytes, most: int, deadline: float | None) -> None:
        if target.scheme not in ("http", "grpc") or target.port is None:
            raise ValueError(
                f"expected http://host:port/path or grpc://host:port/Service/Method, got {target.geturl()}"
            )
        self._target, self._body, self._most = target, body, most
        self._timeout = "" if deadline is None else f"{round(deadline * 1e3)}m"
        self._multiplexes = target.scheme == "grpc"
        self._all: list[_Connection] = []
        self._idle: list[_Connection] = []
        self._waiting: deque[int] = deque()

    def open_one(self) -> None:
        connection = _Connection(self._target, self._body, self._timeout)
        self._all.append(connection)
        self._idle.append(connection)

    def send(self, number: int) -> None:
        if not self._idle and len(self._all) < self._most:
            self.open_one()
        if self._idle:
            connection = self._idle.pop()
        elif self._multiplexes:
            connection = min(self._all, key=lambda one: one.busy)
        else:
            self._waiting.append(number)
            return
        connection.send(connection.protocol.request(number))

    def receive(self, timeout: float) -> list[tuple[int, bool]]:
        """The answers that came; waits for the first one at most ``timeout`` seconds.

        select(), as it takes microseconds where epoll, in Python, rounds to milliseconds.
        """
        blocked = [connection for connection in self._all if connection.unsent]
        readable, writable, _ = select.select(self._all, blocked, (), timeout)
        for connection in writable:
            connection.send_more()
        answers: list[tuple[int, bool]] = []
        for connection in readable:
            answers += self._read(connection)
        return answers

    def _read(self, connection: _Connection) -> list[tuple[int, bool]]:
        was_busy = connection.busy
        try:
            data = connection.socket.recv(_READ)
            if not data:
                raise ConnectionError("the server closed the connection")
            answers, out = connection.protocol.receive(data)
        except BlockingIOError:
            return []
        except (ConnectionError, httptools.HttpParserError, ngh2.NGH2Error) as error:
            if connection.busy:
                print(f"{connection.busy} requests failed: {error}", file=sys.stderr)
            self._forget(connection)
            return [(number, False) for number in connection.protocol.pending]
        if out:
            connection.send(out)
        if connection.protocol.ended:
            self._forget(connection)
            if self._waiting:
                self.send(self._waiting.popleft())
        elif was_busy and not connection.busy:
            if self._waiting:
                connection.send(connection.protocol.request(self._waiting.popleft()))
            else:
                self._idle.append(connection)
        return answers

    def _forget(self, connection: _Connection) -> None:
        self._all.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.socket.close()

    def close(self) -> None:
        for connection in self._all:
            connection.socket.close()


def _set_timer_slack() -> None:
    """Linux lets a sleep end up to 50 µs late, to wake for several things at once; not this thread's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def _go_first() -> None:
    """Puts this process before all others, where that is allowed (root): it stands for clients that have machines of
    their own, and takes some 5 % of a CPU. Else it competes with the server that it measures, and is late itself."""
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def main() -> None:
    parser = argparse.ArgumentParser(description="Sends requests at a fixed rate and prints percentiles of latency.")
    parser.add_argument("url", help="http://host:port/path, or grpc://host:port/Service/Method")
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=64, help="at most so many, opened as they are needed")
    parser.add_argument("--body", type=Path, help="file with the body or message; without it half_plus_two's, in JSON")
    parser.add_argument("--deadline", type=float, help="seconds that the server is told it has for each")
    parser.add_argument("--save", type=Path, help="file for the latency of each request (see Latencies.read)")
    given = parser.parse_args()
    body = given.body.read_bytes() if given.body else HALF_PLUS_TWO
    stop = threading.Event()
    _go_first()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    latencies = run(
        given.url,
        body,
        rate=given.rate,
        seconds=given.seconds,
        connections=given.connections,
        deadline=given.deadline,
        stop=stop,
    )
    if given.save:
        latencies.save(given.save)
    print(json.dumps({name: round(value, 3) for name, value in latencies.summary().items()}, ensure_ascii=False))


if __name__ == "__main__":
    main()
