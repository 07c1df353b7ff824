"""The versions that one worker has: loaded, served, withdrawn and unloaded as the supervisor says."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServedVersion
from pyserving.core.harness import Harness
from pyserving.core.loader import Loader
from pyserving.core.servable import ServableId
from pyserving.core.serving_map import ServingMap
from pyserving.core.source import AspiredVersion
from pyserving.core.threads import Threads
from pyserving.platforms.model import Model, Signature
from pyserving.server.folder import Folder

T = TypeVar("T")


@dataclass(slots=True)
class _Version:
    path: str
    model: Model
    harness: Harness
    served: ServedVersion
    drained: asyncio.Event
    """No handle is left on it, and no new one is given out."""
    serves: bool = False


class Replica:
    """Decides nothing: what is aspired is the business of the supervisor's Manager. Used on an event loop."""

    def __init__(self, serving: ServingMap, loader: Callable[[ServableId, Folder], Loader]) -> None:
        """``loader`` makes that of a version, given its folder."""
        self._serving = serving
        self._loader = loader
        self._loop = asyncio.get_running_loop()
        self._threads = Threads()
        self._versions: dict[ServableId, asyncio.Task[_Version]] = {}
        """Each is done once the version is loaded."""

    async def load(self, servable: ServableId, folder: Folder) -> Mapping[str, Signature]:
        """Loads a version, which requests do not see yet, and returns its signatures. Raises ServingError."""
        loading = self._versions[servable] = asyncio.ensure_future(self._load(servable, folder))
        try:
            version = await loading
        except ServingError:
            del self._versions[servable]
            raise
        return version.model.signatures

    def version(self, servable: ServableId) -> tuple[ServedVersion, str]:
        """A version that is loaded, and its folder. Raises NOT_FOUND."""
        version = self._loaded(servable)
        if version is None:
            raise ServingError(Code.NOT_FOUND, f"Servable {servable} is not loaded")
        return version.served, version.path

    def serve(self, servable: ServableId) -> None:
        """From now on requests see the version, if it is loaded."""
        if version := self._loaded(servable):
            version.serves = True
            self._replace_serving(servable.name)

    def withdraw(self, servable: ServableId) -> None:
        """From now on no request gets the version. Nothing happens where none did."""
        if version := self._loaded(servable):
            version.serves = False
            self._replace_serving(servable.name)

    async def unload(self, servable: ServableId) -> None:
        """Returns when the version is gone; raises ServingError if something went wrong on its way."""
        if loading := self._versions.get(servable):
            await asyncio.wait([loading])
        version = self._loaded(servable)
        if version is None:
            return
        self.withdraw(servable)
        if not version.served.close():
            await version.drained.wait()
        error = await self._on_thread(f"pyserving-unload-{servable.name}", version.harness.unload)
        del self._versions[servable]
        if error is not None:
            raise error

    async def stop(self, grace: float) -> None:
        """Unloads everything, as far as that is possible within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*(self.unload(servable) for servable in self._versions), return_exceptions=True)

    async def _load(self, servable: ServableId, folder: Folder) -> _Version:
        harness = Harness(AspiredVersion(servable, self._loader(servable, folder)))
        loaded = await self._on_thread(f"pyserving-load-{servable.name}", harness.load)
        if isinstance(loaded, ServingError):
            raise loaded
        drained = asyncio.Event()

        def on_drained() -> None:
            self._loop.call_soon_threadsafe(drained.set)

        model: Model = loaded  # type: ignore[assignment]  # core has no type for it
        return _Version(folder.path, model, harness, ServedVersion(servable, loaded, on_drained), drained)

    def _replace_serving(self, name: str) -> None:
        versions = [self._loaded(servable) for servable in self._versions if servable.name == name]
        self._serving.replace(name, [version.served for version in versions if version and version.serves])

    def _loaded(self, servable: ServableId) -> _Version | None:
        loading = self._versions.get(servable)
        return loading.result() if loading and loading.done() and not loading.exception() else None

    async def _on_thread(self, name: str, job: Callable[[], T]) -> T:
        result: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            value = job()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has stopped
                self._loop.call_soon_threadsafe(result.set_result, value)

        self._threads.spawn(name, run)
        return await result
