"""Watches base paths and says which of the versions under them are aspired."""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pyserving.core.errors import ServingError, invalid_argument
from pyserving.sources.base_path import local_path
from pyserving.sources.os_errors import serving_error
from pyserving.sources.settling import SettlingFolder
from pyserving.sources.version_choice import Complaints, choose, complaints_about
from pyserving.sources.version_folders import Duplicate, VersionPath, list_versions
from pyserving.sources.version_policy import Latest, VersionPolicy

logger = logging.getLogger("pyserving.sources")


@dataclass(frozen=True, slots=True)
class MonitoredServable:
    """Where the versions of one servable are, and which of them to load."""

    base_path: str
    version_policy: VersionPolicy = field(default_factory=Latest)
    unversioned: bool = False
    """``base_path`` is itself the folder of version 1."""

    def list_versions(self) -> tuple[dict[int, VersionPath], list[Duplicate]]:
        """See ``version_folders.list_versions``; an empty folder holds no version in either case."""
        base_path = local_path(self.base_path)
        if not self.unversioned:
            return list_versions(base_path)
        return ({1: VersionPath(1, base_path)} if os.listdir(base_path) else {}), []


OnVersions = Callable[[str, Sequence[VersionPath]], None]
"""Called as (servable name, all versions aspired now, in increasing order); what is left out should be unloaded."""


class FileSystemSource:
    """A Source over folders: ``base_path/<version>/``.

    At each poll every base path is listed. ``on_versions`` is called when the list for a servable changed, never
    twice at a time, from the polling thread or from the thread in ``start`` or ``update``. It must not call the source.

    A version is offered when its folder has come to rest (``settling``). Until then the versions that are ready stay
    aspired, and where there are none, what was aspired before.

    A base path that is missing or cannot be read is an error: it is logged, shown by ``errors``, and looked for
    again at each poll, and what was aspired stays so. A base path that is there but holds no version any more aspires
    none. Other content under a version number already offered is not noticed.
    """

    def __init__(
        self, servables: Mapping[str, MonitoredServable], on_versions: OnVersions, *, poll_wait_seconds: float = 1
    ) -> None:
        """``poll_wait_seconds`` lies between two polls; 0: poll once, by ``start``, and wait for no folder to settle.

        Raises ServingError if it is negative.
        """
        if poll_wait_seconds < 0:
            raise invalid_argument(f"Expected file_system_poll_wait_seconds to be 0 or more; got {poll_wait_seconds}")
        self._on_versions = on_versions
        self._poll_wait_seconds = poll_wait_seconds
        self._streams = {name: _Stream(name, servable) for name, servable in servables.items()}
        self._started = False
        self._stopping = threading.Event()
        # Two locks: a poll may hang in the file system, and stop() must not wait for that, only for callbacks.
        self._poll_lock = threading.Lock()
        self._callback_lock = threading.Lock()

    @property
    def errors(self) -> dict[str, ServingError]:
        """By servable name, why its base path could not be read at the last look."""
        return {name: stream.error for name, stream in self._streams.copy().items() if stream.error is not None}

    def is_settling(self, name: str) -> bool:
        """Whether a version that the policy selects is not offered yet, for it is still being written."""
        stream = self._streams.get(name)
        return stream is not None and stream.is_settling

    def start(self) -> None:
        """Polls once, on this thread, then goes on on a thread of its own."""
        self._started = True
        self.poll()
        if self._poll_wait_seconds > 0:
            threading.Thread(target=self._poll_until_stopped, name="file_system_source", daemon=True).start()

    def stop(self) -> None:
        """Returns once no further callback will come."""
        self._stopping.set()
        with self._callback_lock:
            pass

    def poll(self) -> None:
        """Looks at every base path once, and calls back for what changed. Raises nothing."""
        with self._poll_lock:
            for stream in self._streams.values():
                self._poll_stream(stream)

    def update(self, servables: Mapping[str, MonitoredServable]) -> None:
        """Watches exactly these from now on.

        A servable that is no longer listed gets an empty list of versions. New and changed ones and
        those that had an error are looked at before this returns, if the source was started; ``errors`` then tells
        which base paths could not be read.
        """
        with self._poll_lock:
            for name in self._streams.keys() - servables.keys():
                stream = self._streams.pop(name)
                base_path = stream.servable.base_path
                fields = {"event": "removing_model", "model": name, "base_path": base_path}
                logger.info("No longer watching base path %s of servable %s", base_path, name, extra={"fields": fields})
                self._call_back(stream, [])
            for name, servable in servables.items():
                stream = self._streams.setdefault(name, _Stream(name, servable))
                if stream.servable != servable:
                    stream.servable_changed(servable)
                elif stream.looked and stream.error is None:
                    continue
                if self._started:
                    self._poll_stream(stream)

    def _poll_until_stopped(self) -> None:
        while not self._stopping.wait(self._poll_wait_seconds):
            self.poll()

    def _poll_stream(self, stream: "_Stream") -> None:
        try:
            versions = stream.look(wait_until_settled=self._poll_wait_seconds > 0)
        except Exception:
            # A bug; it must not end the polling of every other servable.
            logger.exception("Could not look for versions of servable %s", stream.name)
            return
        if versions is not None and versions != stream.offered:
            self._call_back(stream, versions)

    def _call_back(self, stream: "_Stream", versions: list[VersionPath]) -> None:
        with self._callback_lock:
            if self._stopping.is_set():
                return
            try:
                self._on_versions(stream.name, versions)
            except Exception:
                # Not counted as offered, so the next poll tries again.
                logger.exception("Could not pass on the versions of servable %s", stream.name)
                return
        stream.offered = versions
        numbers = [version for version, _ in versions]
        logger.info(
            "Aspired versions of servable %s under base path %s: %s",
            stream.name,
            stream.servable.base_path,
            ", ".join(map(str, numbers)) or "none",
            extra={"fields": {"event": "aspired_versions_changed", "model": stream.name, "versions": numbers}},
        )


class _Stream:
    """What is known of one servable's base path."""

    def __init__(self, name: str, servable: MonitoredServable) -> None:
        self.name = name
        self.servable = servable
        self.offered: list[VersionPath] | None = None
        self.looked = False
        self.error: ServingError | None = None
        self._ready: set[VersionPath] = set()
        self._settling: dict[VersionPath, SettlingFolder] = {}
        self._complaints = Complaints()

    @property
    def is_settling(self) -> bool:
        return bool(self._settling)

    def servable_changed(self, servable: MonitoredServable) -> None:
        if (servable.base_path, servable.unversioned) != (self.servable.base_path, self.servable.unversioned):
            self._ready.clear()
        self.servable = servable
        self.looked = False
        self.error = None
        self._settling.clear()
        self._complaints = Complaints()

    def look(self, *, wait_until_settled: bool) -> list[VersionPath] | None:
        """Lists the base path: the versions to aspire, None where what was aspired before should stay."""
        base_path = self.servable.base_path
        try:
            found, duplicates = self.servable.list_versions()
        except (OSError, ServingError) as error:
            self.looked = True
            self.error = _access_error(base_path, self.name, error)
            self._complaints.now(
                {f"FileSystemStoragePathSource encountered a filesystem access error: {self.error.message}"},
                logging.ERROR,
            )
            return None
        self.error = None
        self._ready.intersection_update(found.values())
        self._settling = {path: folder for path, folder in self._settling.items() if path in found.values()}

        policy = self.servable.version_policy
        chosen = choose(policy, found, lambda path: self._is_ready(path, wait_until_settled))
        self.looked = True

        complaints = complaints_about(self.name, base_path, policy, found, duplicates)
        self._complaints.now(complaints, logging.WARNING)
        return chosen if chosen or not policy.select(found) else None

    def _is_ready(self, path: VersionPath, wait_until_settled: bool) -> bool:
        if path in self._ready:
            return True
        if wait_until_settled:
            folder = self._settling.get(path)
            is_new = folder is None
            if folder is None:
                folder = self._settling[path] = SettlingFolder(path.path, at_first_look=not self.looked)
            if not folder.is_ready():
                if is_new:
                    logger.info(
                        "Version %d of servable %s in %s is still being written; waiting until it is at rest",
                        path.version,
                        self.name,
                        path.path,
                    )
                return False
            del self._settling[path]
        self._ready.add(path)
        return True


def _access_error(base_path: str, name: str, error: OSError | ServingError) -> ServingError:
    cause: object = error
    if isinstance(error, FileNotFoundError):
        cause = f"NOT_FOUND: {base_path} not found"
    elif isinstance(error, OSError):
        cause = serving_error(base_path, error)
    return invalid_argument(f"Could not find base path {base_path} for servable {name} with error {cause}")
