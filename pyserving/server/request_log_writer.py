"""Writes records of requests on a thread of its own, which no request waits for."""

import logging
import time
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from threading import Event, Thread

from pyserving.server.request_log_files import RequestLogFiles, Rotation

MAX_WAITING_RECORDS = 10_000
MAX_WAITING_BYTES = 64 << 20
"""So much may wait to be written; what comes beyond is dropped."""
COLLECT_SECONDS = 0.05
"""How long records are collected before they are written: each time the thread wakes up costs requests more than what
it does then."""
MAX_BATCH = 64
"""So many records are written at once: not more, for the thread holds the interpreter's lock until it writes."""
STOP_SECONDS = 10.0
"""How long the last records may take at a stop."""

logger = logging.getLogger("pyserving.server")


@dataclass(frozen=True, slots=True)
class _Record:
    prefix: str
    data: bytes


class RequestLogWriter:
    """``offer`` is an ``Offer`` of pyserving.api.request_log. The counts are read by whoever wants to know."""

    def __init__(self, rotation: Rotation | None = None) -> None:
        self.written = 0
        """Records that lie in a file."""
        self.dropped = 0
        """Records that came while too much waited."""
        self.failed = 0
        """Records that could not be written, as when the disk is full."""
        self._rotation = rotation or Rotation()
        self._queue: SimpleQueue[_Record | None] = SimpleQueue()
        # Without a lock: each of these two is changed by one thread alone.
        self._offered_bytes = 0
        self._taken_bytes = 0
        self._thread: Thread | None = None
        self._stopping = Event()
        self._files: dict[str, RequestLogFiles] = {}

    def offer(self, prefix: str, record: bytes) -> None:
        """Has ``record`` written to a file of ``prefix``, unless too much waits already. Returns at once.

        To be called by one thread only.
        """
        waiting = self._offered_bytes - self._taken_bytes
        if self._queue.qsize() >= MAX_WAITING_RECORDS or waiting + len(record) > MAX_WAITING_BYTES:
            if not self.dropped:
                logger.warning("Request log: requests come faster than they can be written, some are left out")
            self.dropped += 1
            return
        if self._thread is None:
            self._thread = Thread(target=self._run, name="pyserving-request-log", daemon=True)
            self._thread.start()
        self._offered_bytes += len(record)
        self._queue.put(_Record(prefix, record))

    def stop(self) -> None:
        """Writes what waits, and closes the files. No offer may follow."""
        if self._thread is None:
            return
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            logger.warning("Request log: not written to its end, the disk does not answer")
        if self.dropped or self.failed:
            logger.warning(
                "Request log: %d records written, %d left out as too many waited, %d failed",
                self.written,
                self.dropped,
                self.failed,
            )

    def _run(self) -> None:
        while True:
            try:
                first = self._queue.get(timeout=self._seconds_to_rotation())
            except Empty:
                self._rotate()
                continue
            if first is None:
                break
            self._stopping.wait(COLLECT_SECONDS)
            self._rotate()
            self._write(first)
        for files in self._files.values():
            files.close()

    def _write(self, first: _Record) -> None:
        """Writes ``first`` and what has come since then."""
        batch = [first]
        for _ in range(self._queue.qsize()):
            record = self._queue.get()
            if record is None:
                self._queue.put(None)  # the end, to be seen by _run
                break
            if len(batch) == MAX_BATCH:
                self._write_batch(batch)
                batch = []
            batch.append(record)
        self._write_batch(batch)

    def _write_batch(self, batch: list[_Record]) -> None:
        for prefix, records in groupby(batch, lambda record: record.prefix):
            files = self._files.get(prefix)
            if files is None:
                files = self._files[prefix] = RequestLogFiles(prefix, self._rotation)
            data = [record.data for record in records]
            written = files.append(data)
            self.written += written
            self.failed += len(data) - written
            self._taken_bytes += sum(map(len, data))

    def _seconds_to_rotation(self) -> float | None:
        """None while no file is open."""
        times = [files.close_at for files in self._files.values() if files.close_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _rotate(self) -> None:
        now = time.monotonic()
        for files in self._files.values():
            if files.close_at is not None and files.close_at <= now:
                files.close()
