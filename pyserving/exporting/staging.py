"""Writes a version folder so that it is there as a whole, or not at all.

What is being written lies beside the versions, on the same file system, in a folder whose name is no number: no server
takes it for a version. Once it is whole and on the disk, one rename makes it a version. A folder that a process which
is no more has left behind is removed by the next one that writes there; a lock tells which are in use.
"""

import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyserving.core.errors import Code, ServingError
from pyserving.sources.os_errors import serving_error
from pyserving.sources.version_folders import list_versions

PREFIX = ".pyserving-export-"
_MODEL = "model"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StagedVersion:
    """A version that is being written."""

    def __init__(self, base_path: str, folder: str, lock: int) -> None:
        self._base_path = base_path
        self.folder = folder
        """To write into; it does not exist yet."""
        self.lock = lock
        """A file descriptor. While any process has it open, the folder is in use."""

    def publish(self, version: int | None) -> str:
        """Makes it version ``version``, or the one after the highest there is, and returns the path of its folder.

        Raises ALREADY_EXISTS, and what the system says.
        """
        try:
            _sync_files(self.folder)
            with _locked(self._base_path):
                if version is None:
                    version = next_version(self._base_path)
                check_free(self._base_path, version)
                path = os.path.join(self._base_path, str(version))
                os.rename(self.folder, path)
            _sync(self._base_path)
        except OSError as error:
            raise writing_error(self._base_path, error) from None
        return path


@contextmanager
def staged_version(base_path: str) -> Iterator[StagedVersion]:
    """A place for a new version under ``base_path``, which is made if need be. What is not published is removed.

    Raises ServingError where the file system does not let us.
    """
    made = not os.path.isdir(base_path)
    staging, lock = None, -1
    try:
        os.makedirs(base_path, exist_ok=True)
        with _locked(base_path):
            _sweep(base_path)
            staging = tempfile.mkdtemp(prefix=PREFIX, dir=base_path)
            os.chmod(staging, 0o755)
            lock = _lock_of(staging)
    except OSError as error:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        raise writing_error(base_path, error) from None
    try:
        yield StagedVersion(base_path, os.path.join(staging, _MODEL), lock)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if lock >= 0:
            os.close(lock)
        if made:
            with suppress(OSError):  # it has a version now
                os.rmdir(base_path)


def next_version(base_path: str) -> int:
    """One more than the highest there is, 1 where there is none. Raises OSError."""
    return max(0, *list_versions(base_path)[0], 0) + 1


def timestamp_version(base_path: str) -> int:
    """The time, in seconds since the epoch; one second more as long as there is a version of that number."""
    there = list_versions(base_path)[0] if os.path.isdir(base_path) else {}
    version = int(time.time())
    while version in there:
        version += 1
    return version


def check_free(base_path: str, version: int) -> None:
    """Raises ALREADY_EXISTS if there is that version, or anything else by that name."""
    there = list_versions(base_path)[0].get(version) if os.path.isdir(base_path) else None
    path = there.path if there is not None else os.path.join(base_path, str(version))
    if there is not None or os.path.lexists(path):
        raise ServingError(Code.ALREADY_EXISTS, f"{path} exists already; a version is never overwritten")


def writing_error(path: str, error: OSError) -> ServingError:
    """What to tell of a failed write."""
    if error.errno in _FULL:
        return ServingError(
            Code.RESOURCE_EXHAUSTED, f"{error.filename or path}: {error.strerror}; nothing was exported"
        )
    return serving_error(error.filename or path, error)


@contextmanager
def _locked(base_path: str) -> Iterator[None]:
    """Of several processes that write versions here one is in this block, where the system can tell."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = os.open(base_path, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every network file system has locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _lock_of(staging: str) -> int:
    """A file descriptor whose lock says that the folder is in use; -1 where the system has none."""
    if sys.platform == "win32":
        return -1
    import fcntl

    lock = os.open(staging, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _sweep(base_path: str) -> None:
    """Removes what processes that are no more have left."""
    if sys.platform == "win32":
        return
    import fcntl

    for name in os.listdir(base_path):
        if not name.startswith(PREFIX):
            continue
        left = os.path.join(base_path, name)
        with suppress(OSError):  # it is in use, or somebody else's
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _sync_files(folder: str) -> None:
    """Has all files under ``folder`` written to the disk. Raises OSError."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(os.path.join(parent, name))
        _sync(parent)


def _sync(path: str) -> None:
    if sys.platform == "win32":
        return  # neither folders nor files that are open for reading can be synchronised there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
