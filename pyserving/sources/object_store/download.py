"""Brings the objects of a version into a folder."""

import errno
import hashlib
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Sequence

import google_crc32c

from pyserving.core.errors import Code, ServingError
from pyserving.sources.object_store.store import ObjectStore, StoredObject

logger = logging.getLogger("pyserving.sources")

CHUNK = 8 << 20
"""Bytes of one read: what a cut-off download loses at most of each file."""
PARALLEL = 8
"""Reads at a time, of all downloads of this process."""
_ATTEMPTS = 4
_FIRST_WAIT_SECONDS = 0.5

_reads = threading.BoundedSemaphore(PARALLEL)


class Download:
    """Writes objects to files of the same names below a folder. What an earlier one has left there is gone on with."""

    def __init__(self, store: ObjectStore, folder: str, stopping: threading.Event) -> None:
        self._store = store
        self._folder = folder
        self._stopping = stopping
        self._failure: Exception | None = None

    def run(self, objects: Sequence[StoredObject]) -> None:
        """Returns when all files are there, with the checksums that the store tells.

        Raises ServingError: RESOURCE_EXHAUSTED where the disk is full, CANCELLED if it was stopped, DATA_LOSS for a
        wrong checksum, or what the store does. Then what is there stays.
        """
        self._remove_strangers(objects)
        waiting = deque(objects)
        # Not a pool of the standard library: the end of the process would wait for its threads, and these may hang.
        threads = [
            threading.Thread(target=self._work, args=(waiting,), name="pyserving-download", daemon=True)
            for _ in range(min(PARALLEL, len(objects)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        match self._failure:
            case None:
                pass
            case ServingError() as error:
                raise ServingError(error.code, error.message)
            case OSError() as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                code = Code.RESOURCE_EXHAUSTED if full else Code.UNKNOWN
                raise ServingError(code, f"{self._folder}: {error.strerror or error}") from error
            case error:
                raise error

    def _remove_strangers(self, objects: Sequence[StoredObject]) -> None:
        """A folder that is gone on with may have what an evicted version had."""
        expected = {os.path.join(self._folder, *stored.path.split("/")) for stored in objects}
        for parent, _, names in os.walk(self._folder):
            for name in names:
                if (path := os.path.join(parent, name)) not in expected:
                    os.unlink(path)

    def _work(self, waiting: "deque[StoredObject]") -> None:
        try:
            while self._failure is None:
                try:
                    stored = waiting.popleft()
                except IndexError:
                    return
                self._bring(stored)
        except Exception as error:
            self._failure = error

    def _bring(self, stored: StoredObject) -> None:
        path = os.path.join(self._folder, *stored.path.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._fetch(stored, path)
        found = _checksums(path)
        if _fits(stored, *found):
            return
        os.unlink(path)
        self._fetch(stored, path)
        again = _checksums(path)
        # An ETag need not be a checksum: of an encrypted object it is none. What comes twice the same is what is there.
        told = stored.md5 is not None or stored.crc32c is not None
        if not _fits(stored, *again) and (told or again != found):
            os.unlink(path)
            raise ServingError(Code.DATA_LOSS, f"{stored.key}: what was read has another checksum than the store tells")

    def _fetch(self, stored: StoredObject, path: str) -> None:
        with open(path, "ab") as file:
            have = file.tell()
            if have > stored.size:
                file.truncate(0)
                have = 0
            while have < stored.size:
                end = min(have + CHUNK, stored.size)
                data = self._read(stored, have, end)
                if len(data) != end - have:  # the whole file: the server knows no ranges
                    file.truncate(0)
                    have = 0
                file.write(data)
                have += len(data)
                file.flush()
            os.fsync(file.fileno())

    def _read(self, stored: StoredObject, start: int, end: int) -> bytes:
        """Tries again what may pass."""
        attempt = 0
        while True:
            if self._stopping.is_set() or self._failure is not None:
                raise ServingError(Code.CANCELLED, "The download was stopped")
            try:
                with _reads:
                    return self._store.read(stored, start, end)
            except ServingError as error:
                attempt += 1
                if error.code is not Code.UNAVAILABLE or attempt == _ATTEMPTS:
                    raise
                logger.info("Reading %s again from byte %d on: %s", stored.key, start, error.message)
            self._stopping.wait(_FIRST_WAIT_SECONDS * 2**attempt * random.uniform(0.5, 1))


def _checksums(path: str) -> tuple[bytes, bytes]:
    """MD5, and CRC32C in big endian."""
    md5 = hashlib.md5(usedforsecurity=False)
    crc32c = 0
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            md5.update(data)
            crc32c = google_crc32c.extend(crc32c, data)
    return md5.digest(), crc32c.to_bytes(4, "big")


def _fits(stored: StoredObject, md5: bytes, crc32c: bytes) -> bool:
    expected_md5 = stored.md5 or stored.etag_md5
    return (expected_md5 is None or expected_md5 == md5) and (stored.crc32c is None or stored.crc32c == crc32c)
