"""Where compiled signatures lie on disk, under a name made of all that they depend on. Servers may share it."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pyserving.core.errors import Code, ServingError

_VERDICT = "verdict.json"
_LOCK = ".lock"
_NEW = ".new-"


def default_root() -> str:
    """A folder of the user's, after the XDG Base Directory Specification."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "pyserving", "acceleration")


def digest_of_files(folder: str) -> str:
    """A name for all files of a version folder. Raises OSError."""
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            digest.update(f"{os.path.relpath(path, folder)}\0{os.path.getsize(path)}\0".encode())
            with open(path, "rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
    return digest.hexdigest()


def key_of(parts: Sequence[str]) -> str:
    """The name of an entry that depends on all these."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:40]


class Entry:
    """One place in the cache: a folder that is there as a whole, or not at all."""

    def __init__(self, root: str, key: str) -> None:
        self.path = os.path.join(root, key)
        self._root = root

    def read(self) -> dict[str, Any] | None:
        """What was written at last; None where there is nothing, or something that is damaged."""
        try:
            with open(os.path.join(self.path, _VERDICT), encoding="utf-8") as file:
                written = json.load(file)
            if written["files"] != _digests(self.path):
                return None
            found: dict[str, Any] = written["verdict"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Of several processes one is in here, where the system can tell. Raises OSError."""
        os.makedirs(self._root, exist_ok=True)
        with open(f"{self.path}{_LOCK}", "wb") as file:
            if sys.platform != "win32":
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def writing(self) -> Iterator[str]:
        """A folder to write into, which becomes the entry once ``write`` was called and nothing was raised."""
        os.makedirs(self._root, exist_ok=True)
        scratch = tempfile.mkdtemp(prefix=f"{_NEW}{os.path.basename(self.path)}-", dir=self._root)
        try:
            yield scratch
            if os.path.exists(os.path.join(scratch, _VERDICT)):
                shutil.rmtree(self.path, ignore_errors=True)  # one that could not be read
                os.rename(scratch, self.path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @staticmethod
    def write(scratch: str, verdict: Mapping[str, Any]) -> None:
        """Raises OSError."""
        with open(os.path.join(scratch, _VERDICT), "w", encoding="utf-8") as file:
            json.dump({"files": _digests(scratch), "verdict": verdict}, file, indent=1)


def sweep(root: str) -> None:
    """Removes what was being written by processes that are no more."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        left = [name for name in os.listdir(root) if name.startswith(_NEW)]
        for name in left:
            key = name.removeprefix(_NEW).partition("-")[0]
            with open(os.path.join(root, f"{key}{_LOCK}"), "wb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # it is being written
                shutil.rmtree(os.path.join(root, name), ignore_errors=True)
    except OSError:
        return  # there is no cache, or it cannot be written to


def refuse(artefact: str, reason: str) -> None:
    """Writes into the entry that holds an artefact that its engine must not serve, and drops what was compiled.

    Who has it open goes on with it. Raises OSError, and ServingError where there is no entry any more.
    """
    path = os.path.dirname(artefact)
    entry = Entry(os.path.dirname(path), os.path.basename(path))
    with entry.locked():
        verdict = entry.read()
        if verdict is None:
            raise ServingError(Code.NOT_FOUND, f"{path} holds no verdict")
        with entry.writing() as scratch:
            Entry.write(scratch, {**verdict, "refusal": reason})


def _digests(folder: str) -> dict[str, str]:
    """Of all files but that with the verdict: a disk that was full, or a machine that stopped, leaves others behind.

    Raises OSError.
    """
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, folder)
            if relative != _VERDICT:
                with open(path, "rb") as file:
                    found[relative] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
