"""A line for each request, written by a thread in batches: no request waits for the disk, or for who reads a pipe."""

import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from queue import Empty, SimpleQueue
from threading import Event, Thread

import orjson

from pyserving.api.exchange import Peer
from pyserving.server.observer import SeenRequest

MAX_WAITING = 20_000
"""Lines that may wait to be written; what comes beyond is dropped."""
COLLECT_SECONDS = 0.05
"""How long lines are collected before they are written: each time the thread wakes up costs requests time."""
STOP_SECONDS = 5.0
STDOUT = "-"

logger = logging.getLogger("pyserving.server")


class AccessLogFormat(Enum):
    JSON = "json"
    TEXT = "text"


class AccessLog:
    """``add`` is a ``Sink``. The counts are read by whoever wants to know."""

    def __init__(self, path: str, form: AccessLogFormat = AccessLogFormat.JSON) -> None:
        """``path``: of a file that is appended to, or ``-`` for standard output. Raises OSError.

        When another file, or none, is at ``path`` (as logrotate leaves it), a new one is begun.
        """
        self.written = 0
        self.dropped = 0
        """Requests that came while too many lines waited."""
        self.failed = 0
        """Lines that could not be written, as when the disk is full."""
        self._path = path
        self._line: Callable[[SeenRequest], bytes] = _json_line if form is AccessLogFormat.JSON else _text_line
        self._queue: SimpleQueue[SeenRequest | None] = SimpleQueue()
        self._broken = False
        self._file = self._open()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="pyserving-access-log", daemon=True)
        self._thread.start()

    def add(self, seen: SeenRequest) -> None:
        if self._queue.qsize() >= MAX_WAITING:
            self.dropped += 1
        else:
            self._queue.put(seen)

    def stop(self) -> None:
        """Writes what waits. Nothing may be added after."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(STOP_SECONDS)

    def _open(self) -> int:
        if self._path == STDOUT:
            return os.dup(sys.stdout.fileno())
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o640)

    def _run(self) -> None:
        ended = False
        while not ended:
            batch = [self._queue.get()]
            self._stopping.wait(COLLECT_SECONDS)
            while True:
                try:
                    batch.append(self._queue.get_nowait())
                except Empty:
                    break
            ended = batch[-1] is None
            self._write(b"".join(map(self._line, filter(None, batch))), len(batch) - ended)
        os.close(self._file)

    def _write(self, data: bytes, lines: int) -> None:
        try:
            self._follow()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self.failed += lines
            if not self._broken:
                logger.warning("Access log %s: cannot be written, serving goes on: %s", self._path, error)
            self._broken = True
            return
        if self._broken:
            logger.info("Access log %s: is written again, %d lines are missing", self._path, self.failed)
        self._broken = False
        self.written += lines

    def _follow(self) -> None:
        """Opens the file at our path where that is another one by now."""
        if self._path == STDOUT:
            return
        ours = os.fstat(self._file)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            opened = self._open()
            os.close(self._file)
            self._file = opened


class SlowRequests:
    """Warns of requests that took long, with the times of their stages; of a flood of them, ten a second."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._second = 0
        self._told = 0
        self._untold = 0

    def add(self, seen: SeenRequest) -> None:
        """A ``Sink``."""
        if seen.seconds < self._seconds:
            return
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._told = second, 0
        if self._told == _TOLD_A_SECOND:
            self._untold += 1
            return
        self._told += 1
        stages = {name: round(value * 1e3, 3) for name, value in seen.observation.stages().items()}
        fields = _fields(seen) | {"event": "slow_request", "stages_ms": stages, "slow_untold": self._untold}
        logger.warning(
            "Slow request %s: %s%s took %.1f ms (%s), model %s, status %s%s",
            seen.request_id,
            seen.method,
            f" {seen.path}" if seen.path else "",
            seen.seconds * 1e3,
            ", ".join(f"{name} {value:.1f}" for name, value in stages.items()) or "no engine call",
            seen.observation.model or "-",
            seen.status,
            f"; {self._untold} more before were left out" if self._untold else "",
            extra={"fields": fields},
        )
        self._untold = 0


_TOLD_A_SECOND = 10


def _timed(seen: SeenRequest) -> dict[str, object]:
    return {"time": datetime.fromtimestamp(seen.time, UTC).isoformat(timespec="milliseconds")} | _fields(seen)


def _fields(seen: SeenRequest) -> dict[str, object]:
    observation = seen.observation
    return {
        "request_id": seen.request_id,
        "protocol": seen.protocol,
        "method": seen.method,
        "path": seen.path,
        "model": observation.model,
        "version": observation.version,
        "signature": observation.signature,
        "status": seen.status,
        "error": seen.error,
        "bytes_in": seen.bytes_in,
        "bytes_out": seen.bytes_out,
        "duration_ms": round(seen.seconds * 1e3, 3),
        "peer": _shown_peer(seen.peer),
        "key": seen.key,
        "trace_id": seen.trace_id,
    }


def _json_line(seen: SeenRequest) -> bytes:
    fields = _timed(seen)
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a text that no UTF-8 can hold
        printable = {key: ascii(value) if isinstance(value, str) else value for key, value in fields.items()}
        return orjson.dumps(printable, option=orjson.OPT_APPEND_NEWLINE)


def _text_line(seen: SeenRequest) -> bytes:
    """The values of the JSON line in its order, a space between two; ``-``: none. Odd characters are escaped."""
    words = ("-" if value in ("", None) else _word(str(value)) for value in _timed(seen).values())
    return " ".join(words).encode() + b"\n"


def _word(value: str) -> str:
    return value if value.isascii() and value.isprintable() and " " not in value else ascii(value)


def _shown_peer(peer: Peer) -> str:
    if not isinstance(peer, tuple):
        return "unix"
    host, port = str(peer[0]), peer[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
