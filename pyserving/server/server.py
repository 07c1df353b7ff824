"""A whole server in one process: a catalog of models below, what answers requests on top."""

import asyncio
import logging
from collections.abc import Mapping

from pyserving.monitoring.process import add_server_metrics
from pyserving.platforms.tensorflow.op_library import load_op_libraries
from pyserving.protos import messages
from pyserving.server.catalog import Catalog
from pyserving.server.directory import Directory
from pyserving.server.examiner import LocalExaminer
from pyserving.server.front import Front
from pyserving.server.ports import Ports, Tls, read_tls
from pyserving.server.settings import Settings
from pyserving.server.state_metrics import add_version_metrics

logger = logging.getLogger("pyserving.server")


class Server:
    """To be made and used inside a running event loop."""

    def __init__(self, settings: Settings) -> None:
        self.directory = Directory(settings.models)
        self._front = front = Front(settings, self.directory, self._reload, self)
        registry = front.metrics.registry
        examiner = LocalExaminer(front.aside, front.mirrors, lambda servable: self.catalog.folder(servable))
        self.catalog = Catalog(settings, self.directory, front.loaders.loader, examiner, registry)
        front.load_for_requests(self.catalog.manager)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Never done: one process goes on until it is stopped."""
        self.ports: Ports | None = None
        """Once they are open."""
        self._settings = settings
        add_server_metrics(registry)
        add_version_metrics(registry, self.directory.monitor)

    async def start(self) -> None:
        """Opens the ports: at once, or when all models are available. Raises ServingError."""
        settings = self._settings
        # Read first: who mistyped a path should not have to wait for the models to be told.
        tls = read_tls(settings)
        if settings.op_libraries:
            await asyncio.to_thread(load_op_libraries, settings.op_libraries)
        if settings.wait_for_models:
            self.catalog.start()
            await self.catalog.wait_until_available()
            await self._open_ports(tls)
        else:
            await self._open_ports(tls)
            self.catalog.start()
        self.catalog.follow_config()

    def retire(self) -> None:
        """See ``Front.retire``."""
        self._front.retire()

    async def stop(self) -> None:
        """Takes no new request, lets those in flight end within the grace period, then unloads all models."""
        self.catalog.stop_following()
        await self._front.drain()
        await asyncio.to_thread(self.catalog.stop)
        await self._front.stop()
        logger.info("Stopped")

    async def _open_ports(self, tls: Tls) -> None:
        self.ports = Ports(self._settings)
        self.ports.listen()
        await self._front.accept(self.ports, tls)
        logger.info("Listening on %s", ", ".join(self.ports.addresses))

    async def promote(self, name: str, version: int | None, label: str | None) -> tuple[int, int]:
        """See ``Rollout.promote``."""
        return await self.catalog.rollout.promote(name, version, label)

    async def rollback(self, name: str) -> tuple[int, int]:
        """See ``Rollout.rollback``."""
        return await self.catalog.rollout.rollback(name)

    async def set_aspired(self, name: str, versions: Mapping[int, str]) -> Mapping[int, str]:
        """Says which versions of a model there should be, whose source is PUSH: folders by number, empty for those
        named so under its base path. Returns where they are; they become available later.

        Raises ServingError: NOT_FOUND, FAILED_PRECONDITION, INVALID_ARGUMENT; then nothing changes.
        """
        return await self.catalog.set_aspired(name, versions)

    async def _reload(self, config: messages.ModelServerConfig) -> None:
        await self.catalog.reload(config)
