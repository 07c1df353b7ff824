"""One model in one replica: the whole life of its versions and the api over them, without sockets."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from pyserving.core.errors import Code, ServingError
from pyserving.core.events import EventBus
from pyserving.core.handle import ServedVersion
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State
from pyserving.monitoring.process import add_server_metrics
from pyserving.platforms.registry import find_platforms
from pyserving.platforms.tensorflow.op_library import load_op_libraries
from pyserving.protos import messages
from pyserving.ray.follower import Follower, Sync
from pyserving.server.catalog import Catalog
from pyserving.server.directory import Directory
from pyserving.server.examiner import LocalExaminer
from pyserving.server.front import Front
from pyserving.server.gatekeeper import Check
from pyserving.server.readiness import follow
from pyserving.server.settings import Settings
from pyserving.server.state_metrics import add_version_metrics
from pyserving.sources.model_config import ModelConfig, models_from_config

_FIND_SECONDS = 5.0
"""Within which a version has to be found, for a replica to start."""

logger = logging.getLogger("pyserving.ray")


def read_models(config: bytes) -> Sequence[ModelConfig]:
    """The models of a ModelServerConfig. Raises INVALID_ARGUMENT."""
    return models_from_config(messages.ModelServerConfig.FromString(config), platforms=find_platforms()) or []


class Refusals:
    """Says no to whatever would change one replica only."""

    async def reload(self, _: messages.ModelServerConfig) -> None:
        self._refuse()

    async def promote(self, _name: str, _version: int | None, _label: str | None) -> tuple[int, int]:
        self._refuse()

    async def rollback(self, _: str) -> tuple[int, int]:
        self._refuse()

    async def set_aspired(self, _name: str, _versions: Mapping[int, str]) -> Mapping[int, str]:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            "Expected the models that Ray serves to be changed by their config file, or by deploying them anew; "
            "a request would change one replica only",
        )


class _SteppedExaminer(LocalExaminer):
    """Admits a version once all replicas can."""

    def __init__(self, follower: Follower, front: Front, folder: Callable[[ServableId], str]) -> None:
        super().__init__(front.aside, front.mirrors, folder)
        self._follower = follower

    def admit(self, version: ServedVersion, check: Check) -> None:
        self._follower.admit(version.id, check)


class Replica:
    """Answers requests for one model. Its versions are in step with those of the other replicas.

    To be made and used inside a running event loop.
    """

    def __init__(self, settings: Settings, model: ModelConfig, sync: Sync) -> None:
        """Raises INVALID_ARGUMENT for a model whose options cannot be."""
        self._settings = settings
        self._name = model.name
        self.directory = Directory([model])
        refusals = Refusals()
        self._front = front = Front(settings, self.directory, refusals.reload, refusals)
        registry = front.metrics.registry
        self._follower = follower = Follower(sync, self._tell, self._configure)
        examiner = _SteppedExaminer(follower, front, lambda servable: self.catalog.folder(servable))
        bus = EventBus()
        bus.subscribe(follower.on_event)
        self.catalog = Catalog(settings, self.directory, front.loaders.loader, examiner, registry, bus)
        self.handlers = front.handlers()
        self._health = follow(self.directory)
        add_server_metrics(registry)
        add_version_metrics(registry, self.directory.monitor)

    async def start(self) -> None:
        """Returns when this replica can answer as the others do. Raises ServingError if it will not be able to."""
        if self._settings.op_libraries:
            await asyncio.to_thread(load_op_libraries, self._settings.op_libraries)
        picture = await self._follower.start()
        # Where the newest version does not load, the others still serve one that the source does not ask for any more.
        self.catalog.keep(self._name, picture.open)
        self.catalog.start()
        self._follower.follow_config()
        await self._can_answer()
        await self._follower.join()
        self.catalog.keep(self._name, frozenset())

    async def _can_answer(self) -> None:
        """Returns when there is a version for the requests that name none. Raises NOT_FOUND, UNAVAILABLE."""
        monitor = self.directory.monitor
        settled = asyncio.ensure_future(self.catalog.wait_until_settled())
        await asyncio.wait([settled], timeout=_FIND_SECONDS)
        if not monitor.states(self._name):
            (model,) = self.directory.models
            raise ServingError(Code.NOT_FOUND, f"No version of model {self._name} is found under {model.base_path}")
        await settled
        # The newest may have failed before another is loaded, or not be the one that the config names.
        while reason := self._health.missing().get(self._name):
            states = monitor.states(self._name)
            default = self.directory.defaults.get(self._name)
            if all(state.state is State.END for state in states if default in (None, state.id.version)):
                whys = "; ".join(f"{state.id}: {state.error}" for state in states if state.error)
                raise ServingError(Code.UNAVAILABLE, f"Model {self._name} cannot answer: {reason}; {whys}".strip("; "))
            await self._health.changed()

    def leave(self) -> None:
        """Goes on alone: versions change, and nobody is told."""
        self._follower.stop()

    async def stop(self) -> None:
        """Unloads all versions."""
        self.leave()
        await self._front.drain()
        await asyncio.to_thread(self.catalog.stop)
        await self._front.stop()

    def _tell(self, event: ServableState) -> None:
        self.directory.bus.post(event)
        self.directory.bus.deliver()

    async def _configure(self, config: bytes) -> None:
        await self.catalog.reload(messages.ModelServerConfig.FromString(config))
