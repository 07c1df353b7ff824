"""Brings the objects of a version into a folder."""

import errno
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Sequence

from pyserving.core.errors import Code, ServingError
from pyserving.sources.object_store.digests import Digests, digests_of, is_of_parts
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
        found = digests_of(path)
        right = self._is_right(stored, path, found)
        if right or (right is None and stored.etag_md5 is None):
            return
        os.unlink(path)
        self._fetch(stored, path)
        again = digests_of(path)
        right = self._is_right(stored, path, again)
        # An ETag need not be a checksum: of an encrypted object it is none. What comes twice the same is what is there.
        if right is False or (right is None and again != found):
            os.unlink(path)
            raise ServingError(Code.DATA_LOSS, f"{stored.key}: what was read has another checksum than the store tells")

    def _is_right(self, stored: StoredObject, path: str, found: Digests) -> bool | None:
        """None: the store tells no checksum, or none that we can compute."""
        if stored.md5 is not None or stored.crc32c is not None:
            return stored.md5 in (None, found.md5) and stored.crc32c in (None, found.crc32c)
        if stored.etag_md5 is None:
            return None
        if stored.etag_md5 == found.md5 if not stored.parts else is_of_parts(path, stored.etag_md5, stored.parts):
            return True
        told = self._store.checksums(stored)
        if told.crc32 is not None or told.crc32c is not None:
            return told.crc32 in (None, found.crc32) and told.crc32c in (None, found.crc32c)
        # Of what was uploaded in parts we may have guessed a wrong size of parts.
        return False if told.etag_is_md5 and not stored.parts else None

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
