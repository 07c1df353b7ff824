"""Watches base paths in object stores, and fetches the versions that are to be aspired."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State
from pyserving.sources.file_system import MonitoredServable, OnVersions
from pyserving.sources.object_store.cache import CachedVersion, ModelCache
from pyserving.sources.object_store.download import Download
from pyserving.sources.object_store.store import ObjectStore, StoredObject, contents_of
from pyserving.sources.os_errors import serving_error
from pyserving.sources.settling import FolderContents, SettlingFolder
from pyserving.sources.version_choice import Complaints, choose, complaints_about
from pyserving.sources.version_folders import VersionPath

logger = logging.getLogger("pyserving.sources")

_MAX_WAIT_SECONDS = 600.0
_JITTER = 0.2
_REPEAT_SECONDS = 3600.0
"""Between two lines about an error that stays."""

OnState = Callable[[ServableState], None]


class ObjectStoreSource:
    """A Source over base paths in object stores. What it offers are folders on this machine.

    A version is fetched before it is offered, so whatever goes wrong with it, what was aspired before stays aspired.
    While it is fetched its state is START, and if that fails END, with the reason; it is tried again at the next look.
    Otherwise this goes by the rules of ``FileSystemSource``; only that a base path under which no object is left
    is one that cannot be read. Where a store cannot be read when the server starts, what lies in the cache is offered.

    Each servable has a thread, so that one store that hangs holds up nobody else.
    """

    def __init__(
        self,
        servables: Mapping[str, MonitoredServable],
        on_versions: OnVersions,
        cache: ModelCache,
        *,
        on_state: OnState = lambda _: None,
        in_use: Callable[[str], set[int]] = lambda _: set(),
        poll_wait_seconds: float = 60,
    ) -> None:
        """``poll_wait_seconds`` lies between two looks, give or take a fifth, and more after failures; 0: look once,
        and wait for no folder to settle. ``in_use``: versions of a servable that must stay in the cache.

        Raises ServingError if the time is negative.
        """
        if poll_wait_seconds < 0:
            raise invalid_argument(f"Expected the poll interval of buckets to be 0 or more; got {poll_wait_seconds}")
        self._on_versions = on_versions
        self._on_state = on_state
        self._in_use = in_use
        self._cache = cache
        self._poll_wait_seconds = poll_wait_seconds
        self._servables = dict(servables)
        self._streams: dict[str, _Stream] = {}
        self._started = False
        self._callback_lock = threading.Lock()
        """A stream that is stopped calls back no more once this was held."""

    @property
    def errors(self) -> dict[str, ServingError]:
        """By servable name, why its base path, or a version, could not be read at the last look."""
        return {name: stream.error for name, stream in self._streams.copy().items() if stream.error is not None}

    def start(self) -> None:
        """Returns at once."""
        self._started = True
        for name, servable in self._servables.items():
            self._watch(name, servable)

    def stop(self) -> None:
        """Returns once no further callback will come."""
        for stream in self._streams.values():
            stream.stop()
        with self._callback_lock:
            pass

    def update(self, servables: Mapping[str, MonitoredServable]) -> None:
        """Watches exactly these from now on; returns when those that are new or changed were looked at, and fetched."""
        self._servables = dict(servables)
        if not self._started:
            return
        for name, stream in list(self._streams.items()):
            wanted = servables.get(name)
            if wanted is None or wanted.base_path != stream.servable.base_path:
                stream.stop()
                with self._callback_lock:
                    del self._streams[name]
                    if wanted is None:
                        self._on_versions(name, [])
        waiting = []
        for name, servable in servables.items():
            known = self._streams.get(name)
            if known is None:
                waiting.append(self._watch(name, servable))
            elif known.servable != servable:
                known.look_again(servable)
                waiting.append(known)
            elif known.error is not None:  # not waited for: a store that has gone takes long to say so
                known.look_again(servable)
        for stream in waiting:
            stream.looked.wait()

    def cached(self, base_path: str) -> Mapping[int, VersionPath]:
        """The versions under a base path that could be served without the store."""
        return self._cache.paths(base_path)

    def _watch(self, name: str, servable: MonitoredServable) -> "_Stream":
        stream = self._streams[name] = _Stream(
            name,
            servable,
            self._cache,
            self._poll_wait_seconds,
            call_back=self._call_back,
            on_state=self._on_state,
            in_use=self._in_use,
        )
        threading.Thread(target=stream.run, name=f"pyserving-store-{name}", daemon=True).start()
        return stream

    def _call_back(self, stream: "_Stream", versions: list[VersionPath]) -> bool:
        """Returns whether it could be passed on."""
        with self._callback_lock:
            if stream.stopping.is_set():
                return False
            try:
                self._on_versions(stream.name, versions)
            except Exception:
                logger.exception("Could not pass on the versions of servable %s", stream.name)
                return False
        numbers = [version for version, _ in versions]
        logger.info(
            "Aspired versions of servable %s under base path %s: %s",
            stream.name,
            stream.servable.base_path,
            ", ".join(map(str, numbers)) or "none",
            extra={"fields": {"event": "aspired_versions_changed", "model": stream.name, "versions": numbers}},
        )
        return True


class _Stream:
    """What is known of one servable's base path. ``run`` is its thread."""

    def __init__(
        self,
        name: str,
        servable: MonitoredServable,
        cache: ModelCache,
        poll_wait_seconds: float,
        *,
        call_back: Callable[["_Stream", list[VersionPath]], bool],
        on_state: OnState,
        in_use: Callable[[str], set[int]],
    ) -> None:
        self.name = name
        self.servable = servable
        self.error: ServingError | None = None
        self.looked = threading.Event()
        """The servable as it is now was looked at."""
        self.stopping = threading.Event()
        self._cache = cache
        self._poll_wait_seconds = poll_wait_seconds
        self._call_back = call_back
        self._on_state = on_state
        self._in_use = in_use
        self._wake = threading.Event()
        self._store: ObjectStore | None = None
        self._failures = 0
        self._offered: list[VersionPath] | None = None
        self._seen = False
        """The base path could be listed once."""
        self._local: dict[VersionPath, CachedVersion] = {}
        """What was fetched, by where it is in the store; locked, for as long as it may be used."""
        self._objects: dict[VersionPath, list[StoredObject]] = {}
        """Of those that settle."""
        self._settling: dict[VersionPath, SettlingFolder] = {}
        self._failed: dict[int, ServingError] = {}
        """Versions that could not be fetched at the last look."""
        self._told: dict[int, ServingError | None] = {}
        """Of versions that were to be fetched, what their state says: why they could not be."""
        self._complaints = Complaints()
        self._complained_at = 0.0

    def stop(self) -> None:
        self.stopping.set()
        self._wake.set()

    def look_again(self, servable: MonitoredServable) -> None:
        """Looks now, and for this; ``looked`` tells when that was done."""
        self.looked.clear()
        self.servable = servable
        self._wake.set()

    def run(self) -> None:
        while not self.stopping.is_set():
            self._wake.clear()
            servable = self.servable
            try:
                self._look(servable)
            except Exception:
                logger.exception("Could not look for versions of servable %s", self.name)
                self._failures += 1
            if servable is self.servable:
                self.looked.set()
            self._wake.wait(self._wait_seconds())
        self.looked.set()
        for version in self._local.values():
            version.release()

    def _wait_seconds(self) -> float | None:
        """None: until something else is wanted."""
        if self._poll_wait_seconds == 0:
            return None
        longest = max(_MAX_WAIT_SECONDS, self._poll_wait_seconds)
        wait = min(self._poll_wait_seconds * 2.0 ** min(self._failures, 10), longest)
        return wait * random.uniform(1 - _JITTER, 1 + _JITTER)

    def _look(self, servable: MonitoredServable) -> None:
        policy = servable.version_policy
        self._failed.clear()
        try:
            if self._store is None:
                self._store = ObjectStore(servable.base_path)
            found, duplicates = self._store.list_versions()
            self._settling = {path: folder for path, folder in self._settling.items() if path in found.values()}
            chosen = choose(policy, found, self._is_ready)
        except ServingError as error:
            self._failures += 1
            self._complain(error)
            self._offer_cached(servable)
            return
        self._seen = True
        self._complain(next(iter(self._failed.values()), None))
        self._failures = self._failures + 1 if self._failed else 0
        complaints = complaints_about(self.name, servable.base_path, policy, found, duplicates)
        self._complaints.now(complaints, logging.WARNING)
        if chosen or not policy.select(found):
            self._offer([VersionPath(path.version, self._local[path].folder) for path in chosen])
            self._forget(chosen)

    def _complain(self, error: ServingError | None) -> None:
        if self.error is not None and error is None:
            logger.info("Servable %s: base path %s can be read again", self.name, self.servable.base_path)
        now = time.monotonic()
        # Texts differ each time, where they name a port or a request.
        is_new = self.error is None or error is None or self.error.code is not error.code
        if error is not None and (is_new or now - self._complained_at > _REPEAT_SECONDS):
            logger.error("Servable %s: %s: %s", self.name, error.code.name, error.message)
            self._complained_at = now
        self.error = error

    def _offer(self, versions: list[VersionPath]) -> None:
        if versions != self._offered and self._call_back(self, versions):
            self._offered = versions

    def _offer_cached(self, servable: MonitoredServable) -> None:
        """Better than nothing, where the store could never be read yet."""
        if self._seen or self._offered is not None:
            return
        whole = self._cache.whole(servable.base_path)
        versions = [whole[number] for number in servable.version_policy.select(whole)]
        held = [version for version in versions if version.take(alone=False, given_up=self.stopping.is_set)]
        usable = [version for version in held if version.is_whole]
        if usable:
            logger.warning(
                "Servable %s: serving from the cache what was there when the store could last be read", self.name
            )
            for version in usable:
                self._local[VersionPath(version.version, version.folder)] = version
            self._offer([VersionPath(version.version, version.folder) for version in usable])

    def _is_ready(self, path: VersionPath) -> bool:
        """Whether the version is in the cache. Fetches it, once it has settled. Raises UNAVAILABLE if the store
        cannot be listed; whatever else is wrong is wrong with this version."""
        if path in self._local:
            return True
        try:
            if not self._has_settled(path):
                return False
        except ServingError as error:
            if error.code is Code.UNAVAILABLE:
                raise
            self._fetch_failed(path.version, error)
            return False
        try:
            self._local[path] = self._fetch(path, self._objects.pop(path))
        except ServingError as error:
            self._fetch_failed(path.version, error)
            return False
        self._settling.pop(path, None)
        self._told.pop(path.version, None)
        return True

    def _has_settled(self, path: VersionPath) -> bool:
        if self._poll_wait_seconds == 0:
            self._list(path)
            return True
        is_new = path not in self._settling
        if is_new:
            self._settling[path] = SettlingFolder(
                path.path, at_first_look=not self._seen, look=lambda _: self._list(path)
            )
        ready = self._settling[path].is_ready()
        if is_new and not ready:
            logger.info(
                "Version %d of servable %s in %s is new; waiting until it does not change",
                path.version,
                self.name,
                path.path,
            )
        return ready

    def _list(self, path: VersionPath) -> FolderContents:
        assert self._store is not None
        self._objects[path] = self._store.objects(path.path)
        return contents_of(self._objects[path])

    def _fetch(self, path: VersionPath, objects: list[StoredObject]) -> CachedVersion:
        """The version in the cache, locked. Raises ServingError."""
        assert self._store is not None
        entry = self._cache.place(self.servable.base_path, path.version, objects)
        try:
            while True:
                self._take(entry, alone=False)
                if entry.is_whole:
                    entry.touch()
                    return entry
                self._take(entry, alone=True)
                if not entry.is_whole:
                    self._download(path, objects, entry)
        except OSError as error:
            entry.release()
            raise serving_error(self._cache.root, error) from error
        except BaseException:
            entry.release()
            raise

    def _take(self, entry: CachedVersion, *, alone: bool) -> None:
        if not entry.take(alone=alone, given_up=self.stopping.is_set):
            raise ServingError(Code.CANCELLED, "The download was stopped")

    def _download(self, path: VersionPath, objects: list[StoredObject], entry: CachedVersion) -> None:
        assert self._store is not None
        size = sum(stored.size for stored in objects)
        if path.version not in self._told:
            self._told[path.version] = None
            self._tell(path.version, State.START)
        logger.info(
            "Fetching version %d of servable %s: %d files, %.1f MB", path.version, self.name, len(objects), size / 1e6
        )
        began = time.monotonic()
        os.makedirs(entry.part, exist_ok=True)
        missing = size - _size(entry.part)
        try:
            self._cache.check_room(missing)
        except ServingError:
            self._evict(keep=0)
            self._cache.check_room(missing)
        Download(self._store, entry.part, self.stopping).run(objects)
        # All parts are of one content only if it did not change meanwhile.
        if contents_of(self._store.objects(path.path)) != contents_of(objects):
            entry.remove()
            raise ServingError(Code.ABORTED, "it has changed while it was read")
        entry.publish()
        logger.info("Fetched version %d of servable %s in %.1f s", path.version, self.name, time.monotonic() - began)

    def _fetch_failed(self, version: int, cause: ServingError) -> None:
        told = self._told.get(version)
        if self.stopping.is_set():
            if version in self._told and told is None:
                self._tell(version, State.END)
            return
        where = f"Version {version} of {self.name} could not be fetched from {self.servable.base_path}"
        error = ServingError(cause.code, f"{where}; trying again: {cause.message}")
        self._failed[version] = error
        if told is None or told.message != error.message:  # not each time that it is tried
            self._told[version] = error
            self._tell(version, State.END, error)

    def _tell(self, version: int, state: State, error: ServingError | None = None) -> None:
        self._on_state(ServableState(ServableId(self.name, version), state, time.time(), error))

    def _forget(self, chosen: list[VersionPath]) -> None:
        """Lets those go that are used no more."""
        used = self._in_use(self.name)
        for path in [path for path in self._local if path not in chosen and path.version not in used]:
            self._local.pop(path).release()
        self._evict()

    def _evict(self, *, keep: int | None = None) -> None:
        folders = {version.folder for version in self._local.values()}
        used = self._in_use(self.name)
        try:
            self._cache.evict(
                self.servable.base_path,
                lambda entry: entry.folder in folders or (entry.is_whole and entry.version in used),
                keep=keep,
            )
        except OSError as error:
            logger.warning("Could not tidy up the model cache: %s", error)


def _size(folder: str) -> int:
    """Bytes of all files below."""
    return sum(os.path.getsize(os.path.join(parent, name)) for parent, _, names in os.walk(folder) for name in names)
