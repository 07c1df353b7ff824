"""The models that this server is configured to serve, from their folders to their being available."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from pyserving.core.events import EventBus
from pyserving.core.labels import VersionLabels
from pyserving.core.manager import Manager
from pyserving.core.monitor import ServableStateMonitor, require_available
from pyserving.core.resources import Resources, ResourceTracker
from pyserving.core.servable import ServableId, ServableRequest
from pyserving.core.source import AspiredVersion
from pyserving.core.state import ServableState
from pyserving.platforms.tensorflow.loader import TensorFlowLoader
from pyserving.server.settings import Settings
from pyserving.sources.file_system import FileSystemSource, MonitoredServable
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_folders import VersionPath

T = TypeVar("T")

logger = logging.getLogger("pyserving.server")


class Catalog:
    """Source, loaders, manager, labels and states of the configured models."""

    def __init__(self, settings: Settings) -> None:
        self.models: Sequence[ModelConfig] = tuple(settings.models)
        self.labels = VersionLabels()
        bus = EventBus()
        bus.subscribe(_log_event)
        self.monitor = ServableStateMonitor(bus)
        limit = settings.model_memory_limit
        self.manager = Manager(
            bus,
            # At the start there is no request to slow down, and every version is waited for.
            num_load_threads=max(settings.num_load_threads, os.cpu_count() or 1),
            num_unload_threads=settings.num_unload_threads,
            max_num_load_retries=settings.max_num_load_retries,
            load_retry_interval=settings.load_retry_interval,
            resources=ResourceTracker(None if limit is None else Resources(limit)),
        )
        self._settings = settings
        self._source = FileSystemSource(
            {model.name: MonitoredServable(model.base_path, model.version_policy) for model in self.models},
            self._on_versions,
            poll_wait_seconds=settings.poll_wait,
        )

    def start(self) -> None:
        """Looks for versions, and begins to load them."""
        if not self._settings.wait_for_models:
            self._assign_labels(allow_unavailable=True)
        self._source.start()

    async def wait_until_settled(self) -> Sequence[ServableState]:
        """The state of each model's latest version once all have come to AVAILABLE or END."""
        requests = [ServableRequest(model.name) for model in self.models]
        states = await _on_a_thread(lambda: self.monitor.wait_until_available(requests))
        self.manager.set_num_load_threads(self._settings.num_load_threads)
        return states

    async def wait_until_available(self) -> None:
        """As the original starts: raises ServingError if a model failed, or a label points nowhere."""
        require_available(await self.wait_until_settled())
        self._assign_labels(allow_unavailable=self._settings.allow_labels_for_unavailable)

    def stop(self) -> None:
        """Unloads everything, once the handles are released or the grace period is over."""
        self._source.stop()
        self.manager.stop(self._settings.grace_period)

    def _on_versions(self, name: str, versions: Sequence[VersionPath]) -> None:
        options = self._settings.session_options
        aspired = []
        for version, path in versions:
            servable = ServableId(name, version)
            aspired.append(AspiredVersion(servable, TensorFlowLoader(servable, path, options)))
        self.manager.set_aspired_versions(name, aspired)

    def _assign_labels(self, *, allow_unavailable: bool) -> None:
        labels: Mapping[str, Mapping[str, int]] = {model.name: model.labels for model in self.models}
        self.labels.update(labels, self.manager.is_available, allow_unavailable=allow_unavailable)


def _log_event(event: ServableState) -> None:
    if event.error is not None:
        logger.error("%s: %s: %s", event.state.name, event.id, event.error)
    else:
        logger.info("%s: %s", event.state.name, event.id)


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
