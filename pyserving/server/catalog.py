"""The models that this server is configured to serve, from their folders to their being available."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.events import EventBus
from pyserving.core.loader import Loader
from pyserving.core.manager import Manager
from pyserving.core.monitor import require_available
from pyserving.core.servable import ServableId, ServableRequest
from pyserving.core.source import AspiredVersion
from pyserving.core.state import ServableState, State
from pyserving.monitoring.metrics import Registry
from pyserving.platforms.registry import find_platforms
from pyserving.protos import messages
from pyserving.server.directory import Directory
from pyserving.server.folder import Folder, folder_of
from pyserving.server.gatekeeper import Examiner, Gatekeeper
from pyserving.server.residency import add_residency_metrics, loads_for_requests, new_residency, stays_of
from pyserving.server.rollout import Rollout
from pyserving.server.rollout_rules import GateRules, check_rules, gate_rules
from pyserving.server.settings import Settings
from pyserving.server.version_log import VersionLog
from pyserving.sources.model_config import ModelConfig, models_from_config
from pyserving.sources.model_source import ModelSource, check_sources
from pyserving.sources.object_store.cache import ModelCache
from pyserving.sources.text_proto import read_text_proto
from pyserving.sources.version_folders import VersionPath

T = TypeVar("T")

logger = logging.getLogger("pyserving.server")


class Catalog:
    """Source and manager of the configured models. What comes of them it puts into a Directory."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        loader: Callable[[ServableId, Folder], Loader],
        examiner: Examiner,
        registry: Registry,
        bus: EventBus | None = None,
    ) -> None:
        """``loader`` makes that of a version, given its folder; ``examiner`` looks at it then.

        Raises INVALID_ARGUMENT for a model whose options cannot be.

        The manager posts to ``bus``, and who gave it posts to the directory's; without one, the manager does so itself.
        """
        self._directory = directory
        self._monitor = directory.monitor
        directory.bus.subscribe(VersionLog())
        check_rules(directory.models)
        self.rollout = Rollout(
            directory,
            self._newest,
            self._aspire,
            lambda model: self._source.at_hand(model),
            lambda name: self.manager.wake(name),
        )
        self._gatekeeper = Gatekeeper(
            examiner,
            self._gate_rules,
            directory.serving.default,
            self.rollout.served_before,
            registry,
            directory.examined,
        )
        stays = stays_of(settings, directory.models)
        residency, resources = new_residency(settings)
        self._bus = bus or directory.bus
        self.manager = Manager(
            self._bus,
            directory.serving,
            # At the start there is no request to slow down, and every version is waited for.
            num_load_threads=max(settings.num_load_threads, os.cpu_count() or 1),
            num_unload_threads=settings.num_unload_threads,
            max_num_load_retries=settings.max_num_load_retries,
            load_retry_interval=settings.load_retry_interval,
            resources=resources,
            gate=self._gatekeeper,
            residency=residency,
        )
        self.manager.set_stays(stays)
        add_residency_metrics(registry, residency, self.manager)
        self._settings = settings
        self._loader = loader
        self._source = ModelSource(
            directory.models,
            self._on_versions,
            ModelCache(settings.model_cache, keep=settings.model_cache_keep),
            on_state=self._on_state,
            in_use=self._in_use,
            poll_wait_seconds=settings.poll_wait,
            bucket_poll_wait_seconds=settings.bucket_poll_wait,
        )
        self._found: dict[str, Sequence[VersionPath]] = {}
        """What the source asked for at last, by model."""
        self._keeping: dict[str, Set[int]] = {}
        """Versions that are to be there though the source may not ask for them, by model."""
        self._paths: dict[ServableId, str] = {}
        """Where versions are or were, that it ever asked for."""
        # What the manager tells while it is held may lead back here: other default versions are other versions to keep.
        self._aspiring = threading.RLock()
        self._reloading = asyncio.Lock()
        self._following: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Looks for versions, and begins to load them. Raises ServingError where the session options are wrong."""
        self._settings.session_options.config_proto()
        _log_models(self._directory.models, {})
        if not self._settings.wait_for_models:
            self._assign_labels(allow_unavailable=True)
        self.rollout.configure(self._directory.models)
        self._source.start()

    async def wait_until_settled(self) -> Sequence[ServableState]:
        """The state of each model's latest version once all have come to AVAILABLE or END."""
        # Nobody can push a version before the ports are open.
        requests = [ServableRequest(model.name) for model in self._directory.models if not model.is_pushed]
        states = await _on_a_thread(lambda: self._monitor.wait_until_available(requests))
        if not loads_for_requests(self._settings, self._directory.models):
            self.manager.set_num_load_threads(self._settings.num_load_threads)
        return states

    async def wait_until_available(self) -> None:
        """As the original starts: raises ServingError if a model failed, or a label points nowhere."""
        require_available(await self.wait_until_settled())
        await self._labelled_versions_settled(self._directory.models)
        self._assign_labels(allow_unavailable=self._settings.allow_labels_for_unavailable)

    async def reload(self, config: messages.ModelServerConfig) -> None:
        """Makes exactly ``config`` true, and waits until what is new in it is available.

        Raises ServingError: INVALID_ARGUMENT, and nothing was changed, where the config itself is wrong; else the
        config holds, and the error says which model cannot be found or loaded, or which label points nowhere.
        """
        async with self._reloading:
            models = models_from_config(config, running=self._directory.models, platforms=find_platforms())
            if models is None:
                raise invalid_argument(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                    "currently supported"
                )
            check_rules(models)
            stays = stays_of(self._settings, models)
            check_sources(models)
            before = {model.name: (model.base_path, model.version_policy) for model in self._directory.models}
            changed = [model for model in models if (model.base_path, model.version_policy) != before.get(model.name)]
            _log_models(models, {model.name: model for model in self._directory.models})
            mark = self._monitor.mark()
            self._directory.configure(models)
            self.manager.set_stays(stays)
            await asyncio.to_thread(self.rollout.configure, models)
            await _on_a_thread(lambda: self._source.update(models))
            for model in changed:
                if error := self._source.errors.get(model.name):
                    raise error
            failed = {model.name: state for model in changed if (state := self._failed_for_good(model))}
            requests = [
                ServableRequest(model.name)
                for model in changed
                if self._found.get(model.name) and model.name not in failed
            ]
            states = await _on_a_thread(lambda: self._monitor.wait_until_available(requests, since=mark))
            require_available([*states, *failed.values()], "model(s)")
            await self._labelled_versions_settled(changed)
            self._assign_labels(allow_unavailable=self._settings.allow_labels_for_unavailable)

    async def set_aspired(self, name: str, versions: Mapping[int, str]) -> Mapping[int, str]:
        """See ``PushSource.set_aspired``. Returns the folders by number."""
        if not any(model.name == name for model in self._directory.models):
            raise ServingError(Code.NOT_FOUND, f"Could not find model {name}")
        return dict(await asyncio.to_thread(self._source.set_aspired, name, versions))

    def follow_config(self) -> None:
        """Begins to read the config file again and again, if there is one and the settings say so."""
        settings = self._settings
        if settings.config_file and settings.config_poll_wait:
            self._following = asyncio.ensure_future(self._follow(settings.config_file, settings.config_poll_wait))

    def stop_following(self) -> None:
        if self._following is not None:
            self._following.cancel()

    async def _follow(self, path: str, wait: float) -> None:
        """Reads ``path`` every ``wait`` seconds and reloads what it says. What is wrong is logged, and changes nothing.

        A file that did not change is applied again only if that failed the last time: a label may have to wait for
        its version.
        """
        applied: messages.ModelServerConfig | None = None
        failure = ""
        while True:
            await asyncio.sleep(wait)
            try:
                config = await asyncio.to_thread(read_text_proto, path, messages.ModelServerConfig)
                if config != applied:
                    await self.reload(config)
                    applied, failure = config, ""
            except ServingError as error:
                if str(error) != failure:
                    logger.error("Could not apply %s: %s", path, error)
                    failure = str(error)

    def stop(self) -> None:
        """Unloads everything, once the handles are released or the grace period is over."""
        self._source.stop()
        self.manager.stop(self._settings.grace_period)

    def keep(self, name: str, versions: Set[int]) -> None:
        """From now on these versions of a model are to be there besides what the source asks for, while their folders
        are."""
        self._keeping[name] = versions
        self._aspire(name)

    def folder(self, servable: ServableId) -> str:
        """Where a version is that is aspired, or was."""
        return self._paths[servable]

    def _on_versions(self, name: str, versions: Sequence[VersionPath]) -> None:
        self._found[name] = versions
        self._aspire(name)

    def _aspire(self, name: str) -> None:
        """Has the manager load what the source asks for, and what is to be kept besides."""
        if name not in self._found:  # the source will say first
            return
        with self._aspiring:
            found = dict(self._found[name])
            model = next((model for model in self._directory.models if model.name == name), None)
            if model is not None:
                found |= self._kept(model, found)
            # A model that was just taken out of the config has no versions: what is said of it is not used.
            config = model or ModelConfig(name, "")
            paths = {ServableId(name, version): path for version, path in sorted(found.items())}
            moved = {servable.version for servable, path in paths.items() if self._paths.get(servable, path) != path}
            self._paths.update(paths)
            self.manager.set_aspired_versions(
                name, [self._aspired(servable, path, config) for servable, path in paths.items()], moved=moved
            )

    def _aspired(self, servable: ServableId, path: str, config: ModelConfig) -> AspiredVersion:
        renew = partial(self._loader, servable, folder_of(path, config, isolate=self._settings.isolate))
        return AspiredVersion(servable, renew(), renew)

    def _kept(self, model: ModelConfig, found: Mapping[int, str]) -> dict[int, str]:
        """Where versions are that are to be kept, though they are not ``found``."""
        missing = (self.rollout.kept(model.name) | self._keeping.get(model.name, set())) - found.keys()
        if not missing:
            return {}
        known = {version: self._paths.get(ServableId(model.name, version)) for version in missing}
        on_disk = self._source.at_hand(model) if None in known.values() else {}
        paths = {
            version: path or (on_disk[version].path if version in on_disk else "") for version, path in known.items()
        }
        return {version: path for version, path in paths.items() if path}

    def _on_state(self, state: ServableState) -> None:
        """Tells of a version that the manager has not heard of yet."""
        self._bus.post(state)
        self._bus.deliver()

    def _in_use(self, name: str) -> set[int]:
        states = self._monitor.states(name)
        return {
            state.id.version for state in states if state.state is not State.END or state.dormant
        } | self.rollout.kept(name)

    def _newest(self, name: str) -> int | None:
        return max((version for version, _ in self._found.get(name, ())), default=None)

    def _gate_rules(self, name: str) -> GateRules:
        model = next((model for model in self._directory.models if model.name == name), None)
        return GateRules() if model is None else gate_rules(model.options.gate)

    def _failed_for_good(self, model: ModelConfig) -> ServableState | None:
        """The state of a model's latest version, where every one that the source asks for has failed and is tried no
        more, and no other may come: then nothing will happen that could be waited for."""
        found = [ServableId(model.name, version) for version, _ in self._found.get(model.name, ())]
        errors = {servable: error for servable in found if (error := self.manager.failure(servable))}
        if not found or len(errors) < len(found) or self._source.may_find_more(model):
            return None
        latest = max(found)
        return ServableState(latest, State.END, time.time(), errors[latest])

    async def _labelled_versions_settled(self, models: Sequence[ModelConfig]) -> None:
        """One version of a model is available before the others, and that need not be one with a label."""
        if self._settings.allow_labels_for_unavailable:
            return
        requests = [
            ServableRequest(model.name, version)
            for model in models
            for version in model.labels.values()
            if any(found == version for found, _ in self._found.get(model.name, ()))
        ]
        await _on_a_thread(lambda: self._monitor.wait_until_available(requests))

    def _assign_labels(self, *, allow_unavailable: bool) -> None:
        labels: Mapping[str, Mapping[str, int]] = {model.name: model.labels for model in self._directory.models}
        self._directory.assign_labels(labels, self._can_answer, allow_unavailable=allow_unavailable)

    def _can_answer(self, servable: ServableId) -> bool:
        state = self._monitor.state(servable)
        return self._directory.serving.is_available(servable) or (state is not None and state.dormant)


def _log_models(models: Sequence[ModelConfig], before: Mapping[str, ModelConfig]) -> None:
    """A line for each model that is new, or whose config is."""
    for model in models:
        if model != before.get(model.name):
            kind = "Changing" if model.name in before else "Adding"
            fields = {"event": f"{kind.lower()}_model", "model": model.name, "base_path": model.base_path}
            logger.info("%s model %s: base path %s", kind, model.name, model.base_path, extra={"fields": fields})


async def _on_a_thread(call: Callable[[], T]) -> T:
    """Waits for ``call`` on a daemon thread: one that never returns does not keep the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.shield(asyncio.wrap_future(future))
