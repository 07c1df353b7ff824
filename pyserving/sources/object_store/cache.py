"""Versions that were fetched from object stores, in a folder that several servers may share.

``ROOT/<base path>/<version>-<fingerprint>/`` holds ``part/`` while the version is fetched, and when it is whole
``<version>/``: renamed, so it is there whole or not at all. The fingerprint is that of all names, sizes and tags, so
what is there is what was listed. Beside it is a lock file: who fetches or removes holds it alone, who serves shares it.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from pyserving.core.errors import Code, ServingError
from pyserving.sources.object_store.store import StoredObject
from pyserving.sources.version_folders import VersionPath

try:
    import fcntl
except ImportError:  # Windows: one server to a cache
    fcntl = None  # type: ignore[assignment]

_WAIT_SECONDS = 0.2
_ENTRY = re.compile(r"(-?[0-9]+)-[0-9a-f]{16}")
PART = "part"


def default_root() -> str:
    """A folder of the user's, after the XDG Base Directory Specification."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "pyserving", "models")


class CachedVersion:
    """One entry, which may be empty yet."""

    def __init__(self, path: str, version: int) -> None:
        self._path = path
        self._lock: int | None = None
        self.version = version
        self.part = os.path.join(path, PART)
        """Where it is fetched to."""
        self.folder = os.path.join(path, str(version))
        """Where it is once it is whole."""

    @property
    def is_whole(self) -> bool:
        return os.path.isdir(self.folder)

    @property
    def used_at(self) -> float:
        """Seconds since the epoch; 0: it has gone."""
        try:
            return os.stat(self._path).st_mtime
        except OSError:
            return 0

    def take(self, *, alone: bool, given_up: Callable[[], bool]) -> bool:
        """Locks it, for other processes. Waits until it is free, or ``given_up``; returns whether it is locked.

        One that is locked is locked anew: in between others may have had it.
        """
        self.release()
        while not (taken := self._try(alone)) and not given_up():
            time.sleep(_WAIT_SECONDS)
        return taken

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def publish(self) -> None:
        """What is in ``part`` is whole."""
        os.rename(self.part, self.folder)
        _sync_folder(self._path)

    def touch(self) -> None:
        """It is used now."""
        with suppress(OSError):
            os.utime(self._path)

    def remove(self) -> bool:
        """Returns whether it has gone: not where another process uses it."""
        self.release()
        if not self._try(True):
            return False
        try:
            # First out of the way, so that a removal that is cut off leaves nothing that seems whole.
            with suppress(OSError):
                os.rename(self.folder, self.part)
            shutil.rmtree(self._path, ignore_errors=True)
            with suppress(OSError):
                os.unlink(self._path + ".lock")
        finally:
            self.release()
        return not os.path.exists(self._path)

    def _try(self, alone: bool) -> bool:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        lock = os.open(self._path + ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is not None:
            try:
                fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return False
            if os.fstat(lock).st_nlink == 0:  # it was removed between the opening and the locking
                os.close(lock)
                return False
        self._lock = lock
        return True


class ModelCache:
    """A folder of fetched versions."""

    def __init__(self, root: str = "", *, keep: int = 2) -> None:
        """``keep``: how many versions that are no longer used stay, for each base path; to roll back to them, or to
        serve them again."""
        self.root = root or default_root()
        self._keep = keep

    def place(self, base_path: str, version: int, objects: Sequence[StoredObject]) -> CachedVersion:
        """The entry of a version with exactly this content."""
        digest = hashlib.sha256()
        for stored in objects:
            digest.update(f"{stored.path}\0{stored.size}\0{stored.tag}\0".encode())
        return CachedVersion(os.path.join(self._folder(base_path), f"{version}-{digest.hexdigest()[:16]}"), version)

    def whole(self, base_path: str) -> dict[int, CachedVersion]:
        """What is there, by version; of two contents of one version the one that was used last."""
        entries = [entry for entry in self._entries(base_path) if entry.is_whole]
        return {entry.version: entry for entry in sorted(entries, key=lambda entry: entry.used_at)}

    def evict(self, base_path: str, used: Callable[[CachedVersion], bool], *, keep: int | None = None) -> None:
        """Removes what is not used, here or by other processes, but for the last ones. Raises OSError."""
        unused = [entry for entry in self._entries(base_path) if not used(entry)]
        unused.sort(key=lambda entry: (entry.is_whole, entry.used_at), reverse=True)
        for entry in unused[self._keep if keep is None else keep :]:
            entry.remove()

    def check_room(self, size: int) -> None:
        """Raises RESOURCE_EXHAUSTED if the disk has not so many bytes free."""
        free = shutil.disk_usage(self.root).free
        if size > free:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, f"{self.root} has {free} bytes free, and {size} are needed for the version"
            )

    def paths(self, base_path: str) -> dict[int, VersionPath]:
        """The folders of ``whole``."""
        return {version: VersionPath(version, entry.folder) for version, entry in self.whole(base_path).items()}

    def _folder(self, base_path: str) -> str:
        base_path = base_path.rstrip("/")
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", base_path)[-60:].strip("-.")
        return os.path.join(self.root, f"{readable}-{hashlib.sha256(base_path.encode()).hexdigest()[:16]}")

    def _entries(self, base_path: str) -> list[CachedVersion]:
        folder = self._folder(base_path)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        matches = [match for name in names if (match := _ENTRY.fullmatch(name))]
        return [CachedVersion(os.path.join(folder, match[0]), int(match[1])) for match in matches]


def _sync_folder(path: str) -> None:
    """Makes a rename outlast a loss of power, where folders can be opened."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
