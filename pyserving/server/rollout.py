"""Which version of a model is the default one: as its config says, as an operator says, or simply the highest."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId, ServableRequest
from pyserving.core.state import ServableState, State
from pyserving.server.directory import Directory
from pyserving.server.rollout_rules import gate_rules, traffic_rules
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_folders import VersionPath

LOOK_SECONDS = 5.0
"""How often it is looked whether a version that is waited for can still come: a reload may have taken it away."""
_REMEMBERED = 10
"""Default versions of the past, by model."""

logger = logging.getLogger("pyserving.server")


class Rollout:
    """Directs the requests that name neither version nor label.

    A model follows its highest version unless a version is **pinned**: by its config, by ``promote``, by ``rollback``,
    or because it is manual (``gate { manual: true }``), which pins the first version that is available. A pinned
    version stays loaded whatever the version policy says.
    """

    def __init__(
        self,
        directory: Directory,
        newest: Callable[[str], int | None],
        changed: Callable[[str], None],
        at_hand: Callable[[ModelConfig], Mapping[int, VersionPath]],
        wake: Callable[[str], "Future[None] | None"],
    ) -> None:
        """``newest``: the highest version of a model that its source aspires.

        ``changed`` is called, on any thread, when other versions of a model are to be kept than before. ``at_hand``:
        the versions that could be loaded, by number. ``wake``: see ``Manager.wake``.
        """
        self._wake = wake
        self._directory = directory
        self._newest = newest
        self._changed = changed
        self._at_hand = at_hand
        self._wanted: dict[str, int] = {}
        """The version to become default once it is available, by model: it is kept, too."""
        self._configured: dict[str, int | None] = {}
        self._history: dict[str, list[int]] = {}
        self._remembering = threading.Lock()
        self._moving = asyncio.Lock()
        directory.bus.subscribe(self._on_event)

    def kept(self, name: str) -> set[int]:
        """Versions that stay aspired, or become so, whatever the source says."""
        pinned = (self._directory.defaults.get(name), self._wanted.get(name))
        return {version for version in pinned if version is not None}

    def served_before(self, servable: ServableId) -> bool:
        """Whether the version has been a default one since the server started."""
        return servable.version in self._history.get(servable.name, ())

    def configure(self, models: Sequence[ModelConfig]) -> None:
        """Follows what the config says anew; what it said before may have been overruled by hand since."""
        configured = {model.name: traffic_rules(model.options.traffic).default_version for model in models}
        before, self._configured = self._configured, configured
        for name in before.keys() - configured.keys():
            self._wanted.pop(name, None)
            self._history.pop(name, None)
            self._directory.direct(name, None)
        for name, version in configured.items():
            if version == before.get(name):
                continue
            if version is None:
                self._wanted.pop(name, None)
                self._direct(name, self._directory.serving.default(name) if self._is_manual(name) else None)
            elif self._directory.serving.available(name) and not self._is_available(name, version):
                self._wanted[name] = version
                self._changed(name)
            else:
                self._direct(name, version)

    async def promote(self, name: str, version: int | None = None, label: str | None = None) -> tuple[int, int]:
        """Makes a version the default one, by default the highest available; it is loaded if it is not.

        Where that is the newest version of a model that is not manual, the model follows its highest version again.
        Returns it and the default version before (0: there was none). Raises NOT_FOUND, FAILED_PRECONDITION.
        """
        async with self._moving:
            await self._require_model(name)
            if label is not None:
                version = self._directory.labels.resolve(name, label)
            available = self._directory.serving.available(name)
            if version is None:
                if not available:
                    raise ServingError(Code.FAILED_PRECONDITION, f"Model {name} has no available version to promote")
                version = available[0]
            return await self._move(name, version)

    async def rollback(self, name: str) -> tuple[int, int]:
        """Makes the version the default one that was so before the current one, and keeps it so until ``promote``.

        Where none is remembered, as after a restart, that is the next lower one under the base path. Returns it and the
        default version before. Raises NOT_FOUND, FAILED_PRECONDITION.
        """
        async with self._moving:
            await self._require_model(name)
            current = self._directory.serving.default(name)
            if current is None:
                raise ServingError(Code.FAILED_PRECONDITION, f"Model {name} has no version to roll back from")
            history = [version for version in self._history.get(name, ()) if version != current]
            lower = [version for version in await asyncio.to_thread(self._on_disk, name) if version < current]
            if not history and not lower:
                raise ServingError(Code.FAILED_PRECONDITION, f"Model {name} has no version before {current}")
            previous = history[-1] if history else max(lower)
            moved = await self._move(name, previous, pin=True)
            with self._remembering:  # what was rolled back from is no version to roll back to
                self._history[name] = [version for version in self._history[name] if version != current]
            return moved

    async def _move(self, name: str, version: int, *, pin: bool = False) -> tuple[int, int]:
        before = self._directory.serving.default(name)
        if not self._is_available(name, version):
            await self._load(name, version)
        self._wanted.pop(name, None)
        follows = version == self._newest(name) and not pin and not self._is_manual(name)
        await asyncio.to_thread(self._direct, name, None if follows else version)
        now = self._directory.serving.default(name)
        logger.info(
            "Model %s: requests go to version %d, before to %s",
            name,
            version,
            before,
            extra={"fields": {"event": "promoted", "model": name, "version": version}},
        )
        return now or version, before or 0

    async def _load(self, name: str, version: int) -> None:
        servable = ServableId(name, version)
        monitor = self._directory.monitor
        mark = monitor.mark()  # before the state is looked at: it may be unloaded in between
        state = monitor.state(servable)
        if state is not None and state.state is State.END and state.error is not None:
            raise ServingError(
                Code.FAILED_PRECONDITION, f"Version {version} of model {name} failed: {state.error.message}"
            )
        if state is not None and state.state is State.UNLOADING:
            await self._settled(servable, mark)
        elif state is not None and state.state is not State.END:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"Version {version} of model {name} is not available: it is {state.state.name}",
            )
        if version not in await asyncio.to_thread(self._on_disk, name):
            raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        mark = monitor.mark()
        self._wanted[name] = version
        await asyncio.to_thread(self._changed, name)
        try:
            reached = await self._settled(servable, mark)
        except ServingError:
            self._wanted.pop(name, None)
            raise
        if reached.state is not State.AVAILABLE:
            self._wanted.pop(name, None)
            await asyncio.to_thread(self._changed, name)
            reason = "" if reached.error is None else f": {reached.error.message}"
            raise ServingError(Code.FAILED_PRECONDITION, f"Version {version} of model {name} cannot be loaded{reason}")

    async def _settled(self, servable: ServableId, mark: int) -> ServableState:
        """Waits until the version has come to AVAILABLE, or to END since ``mark``.

        Raises ABORTED where it is not even on its way.
        """
        request = ServableRequest(servable.name, servable.version)
        monitor = self._directory.monitor
        wait = partial(monitor.wait_until_available, [request], since=mark, timeout=LOOK_SECONDS)
        while True:
            try:
                (state,) = await asyncio.to_thread(wait)
                return state
            except ServingError:
                known = monitor.state(servable)
                if known is None or known.state is State.END or self._model(servable.name) is None:
                    text = f"Version {servable.version} of model {servable.name} was taken away before it was loaded"
                    raise ServingError(Code.ABORTED, text) from None

    def _direct(self, name: str, version: int | None) -> None:
        self._directory.direct(name, version)
        self._remember(name)
        self._changed(name)

    def _on_event(self, event: ServableState) -> None:
        name, version = event.id.name, event.id.version
        pinned = self._directory.defaults.get(name)
        if event.state is State.AVAILABLE:
            if self._wanted.get(name) == version and self._configured.get(name) == version:
                self._wanted.pop(name)
                self._direct(name, version)
            elif pinned is None and self._is_manual(name):
                self._direct(name, version)
        elif event.state is State.END and event.error is not None and pinned == version:
            # Any other is better than none.
            logger.error("Model %s: its default version %d has failed; the highest takes over", name, version)
            self._direct(name, None)
        self._remember(name)

    def _remember(self, name: str) -> None:
        default = self._directory.serving.default(name)
        with self._remembering:
            history = self._history.setdefault(name, [])
            if default is not None and (not history or history[-1] != default):
                history.append(default)
                del history[:-_REMEMBERED]

    def _model(self, name: str) -> ModelConfig | None:
        return next((model for model in self._directory.models if model.name == name), None)

    def _is_manual(self, name: str) -> bool:
        model = self._model(name)
        return model is not None and gate_rules(model.options.gate).manual

    def _is_available(self, name: str, version: int) -> bool:
        return self._directory.serving.is_available(ServableId(name, version))

    async def _require_model(self, name: str) -> None:
        """Raises NOT_FOUND. A model that is not loaded is loaded first; raises UNAVAILABLE where it cannot be."""
        if self._model(name) is None:
            raise ServingError(Code.NOT_FOUND, f"Could not find model {name}")
        while (step := await asyncio.to_thread(self._wake, name)) is not None:
            await asyncio.wrap_future(step)

    def _on_disk(self, name: str) -> Mapping[int, VersionPath]:
        model = self._model(name)
        return {} if model is None else self._at_hand(model)
