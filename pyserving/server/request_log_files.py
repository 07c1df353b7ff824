"""The files that records of requests are written to: rotation, and what happens when a disk is full."""

import logging
import os
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from itertools import accumulate, count, islice

from pyserving.wire.tfrecord import frame_record

RETRY_SECONDS = 10.0
"""How long nothing is tried after a file could not be written."""

logger = logging.getLogger("pyserving.server")


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is closed, so that the next record begins another one."""

    max_bytes: int = 100 << 20
    """It would grow beyond this; a larger record has a file of its own."""
    max_seconds: float = 3600.0
    """So long after it was begun."""


class RequestLogFiles:
    """TFRecord files of one prefix, one after the other: ``{prefix}-{begun, in UTC}-{process}-{number}.tfrecord``.

    They are written without a buffer: a process that is killed leaves whole records, and at most part of a last one.
    """

    def __init__(self, prefix: str, rotation: Rotation) -> None:
        """``prefix``: an absolute path and the beginning of a name; missing folders are made."""
        self.close_at: float | None = None
        """When the file now open is to be closed, on the clock of ``time.monotonic``; None without an open file."""
        self._prefix = prefix
        self._rotation = rotation
        self._file: FileIO | None = None
        self._size = 0
        self._lost = 0
        """Records since files cannot be written."""
        self._retry_at = 0.0

    def append(self, records: Sequence[bytes]) -> int:
        """Writes ``records``, and returns how many it could.

        After a failure nothing is tried for a while, and then a new file is begun. The first failure is logged, and
        the end of the trouble.
        """
        if self._lost and time.monotonic() < self._retry_at:
            self._lost += len(records)
            return 0
        frames = deque(map(frame_record, records))
        try:
            while frames:
                self._write(frames)
        except OSError as error:
            if not self._lost:
                logger.warning("Request log %s*: cannot be written, serving goes on: %s", self._prefix, error)
            self._lost += len(frames)
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return len(records) - len(frames)
        if self._lost:
            logger.info("Request log %s*: is written again, %d records are missing", self._prefix, self._lost)
            self._lost = 0
        return len(records)

    def close(self) -> None:
        """Ends the file now open; the next record begins another one."""
        file, self._file, self.close_at = self._file, None, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                logger.warning("Request log %s may not be complete: %s", file.name, error)

    def _write(self, frames: deque[bytes]) -> None:
        """Writes as many of ``frames`` as one file takes, and takes away from them what was written in full."""
        if self._size + len(frames[0]) > self._rotation.max_bytes:
            self.close()
        file = self._file or self._begin()
        room = self._rotation.max_bytes - self._size
        ends = list(accumulate(map(len, frames)))
        fitting = max(1, bisect_right(ends, room))
        rest = memoryview(b"".join(islice(frames, fitting)))
        written = 0
        try:
            while rest:
                step = file.write(rest)
                written += step
                rest = rest[step:]
        finally:
            whole = bisect_right(ends, written)
            for _ in range(whole):
                self._size += len(frames.popleft())
            if rest:
                self._give_up(file)

    def _begin(self) -> FileIO:
        os.makedirs(os.path.dirname(self._prefix), exist_ok=True)
        self._file = _create(self._prefix)
        self._size = 0
        self.close_at = time.monotonic() + self._rotation.max_seconds
        return self._file

    def _give_up(self, file: FileIO) -> None:
        """Takes away the part of a record that was written, and a file that is empty then."""
        try:
            if self._size:
                file.truncate(self._size)
            else:
                os.unlink(file.name)
        except OSError:
            pass  # the error that led here is told
        self.close()


def _create(prefix: str) -> FileIO:
    begun = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in count():
        try:
            return FileIO(f"{prefix}-{begun}-{os.getpid()}-{number:04d}.tfrecord", "x")
        except FileExistsError:
            continue
    raise AssertionError("count() does not end")
