"""Versions that are aspired because somebody says so, not because a folder is there."""

import logging
import os
import threading
from collections.abc import Mapping

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.sources.base_path import local_path
from pyserving.sources.file_system import MonitoredServable, OnVersions
from pyserving.sources.version_folders import VersionPath

logger = logging.getLogger("pyserving.sources")


class PushSource:
    """A Source that is told which versions of a servable are aspired, and where they are. It looks at nothing itself.

    All folders lie below the servable's base path, links followed. Nothing is aspired until something was said.
    """

    def __init__(self, servables: Mapping[str, MonitoredServable], on_versions: OnVersions) -> None:
        self._servables = dict(servables)
        self._on_versions = on_versions
        self._aspired: dict[str, list[VersionPath]] = {}
        self._stopped = False
        self._lock = threading.Lock()

    def start(self) -> None:
        pass

    def stop(self) -> None:
        """Returns once no further callback will come."""
        with self._lock:
            self._stopped = True

    def update(self, servables: Mapping[str, MonitoredServable]) -> None:
        """Takes versions for exactly these from now on. What was said stays, but where the base path is another."""
        with self._lock:
            before, self._servables = self._servables, dict(servables)
            for name in list(self._aspired):
                if name not in servables or servables[name].base_path != before[name].base_path:
                    del self._aspired[name]
                    self._on_versions(name, [])

    def set_aspired(self, name: str, versions: Mapping[int, str]) -> list[VersionPath]:
        """These are all versions that are aspired now: folder by number. An empty or a relative one lies under the base
        path; an empty one has the number as its name.

        Raises NOT_FOUND where there is no such model or folder, FAILED_PRECONDITION for a model whose versions are not
        pushed, INVALID_ARGUMENT for a path outside of the base path; then nothing changes.
        """
        with self._lock:
            servable = self._servables.get(name)
            if servable is None:
                raise ServingError(
                    Code.FAILED_PRECONDITION, f"Model {name} is not configured with pyserving {{ source: PUSH }}"
                )
            if self._stopped:
                raise ServingError(Code.UNAVAILABLE, "the server is stopping")
            root = os.path.realpath(local_path(servable.base_path))
            aspired = [VersionPath(number, _folder(root, number, path)) for number, path in sorted(versions.items())]
            self._aspired[name] = aspired
            self._on_versions(name, aspired)
        numbers = [version for version, _ in aspired]
        logger.info(
            "Versions of servable %s were set: %s",
            name,
            ", ".join(map(str, numbers)) or "none",
            extra={"fields": {"event": "aspired_versions_changed", "model": name, "versions": numbers}},
        )
        return aspired


def _folder(root: str, number: int, path: str) -> str:
    if number < 0:
        raise invalid_argument(f"Expected versions to be 0 or more; got {number}")
    if "\0" in path:
        raise invalid_argument(f"Expected a path without zero bytes; got {path!r}")
    folder = os.path.realpath(os.path.join(root, path or str(number)))
    if folder == root or os.path.commonpath([root, folder]) != root:
        raise invalid_argument(f"Expected the folder of version {number} to be under {root}; got {path}")
    if not os.path.isdir(folder):
        raise ServingError(Code.NOT_FOUND, f"There is no folder {folder} for version {number}")
    return folder
