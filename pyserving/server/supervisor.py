"""A whole server in several processes: a catalog of models here, what answers requests in workers."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.events import EventBus
from pyserving.core.loader import Loader
from pyserving.core.resources import Resources
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State
from pyserving.monitoring.merge import merge
from pyserving.monitoring.metrics import Gauge, Registry
from pyserving.monitoring.process import add_process_metrics, add_server_metrics
from pyserving.platforms.model import Signature
from pyserving.platforms.tensorflow.library import tensorflow
from pyserving.platforms.tensorflow.op_library import load_op_libraries
from pyserving.protos import messages
from pyserving.server.catalog import Catalog
from pyserving.server.control import CollectAll, Compared, Promote, Reload, Rollback, SetAspired
from pyserving.server.crew import Crew
from pyserving.server.crew_examiner import CrewExaminer
from pyserving.server.directory import Directory
from pyserving.server.folder import Folder
from pyserving.server.front import NUM_PLACES
from pyserving.server.key_file import read_api_keys
from pyserving.server.loaders import platforms_of
from pyserving.server.nursery import Nursery
from pyserving.server.ports import Ports, read_tls
from pyserving.server.settings import Settings
from pyserving.server.state_metrics import add_version_metrics
from pyserving.server.worker import run_worker
from pyserving.transport.balance import Balance

_STOP_SECONDS = 10.0
"""What a worker may take to end besides twice the grace period: requests first, then runs that outlast them."""

logger = logging.getLogger("pyserving.server")


def prepare_supervisor(settings: Settings) -> Callable[[], "Supervisor"]:
    """Does what must be done while there is one thread and no event loop; what it returns needs a running loop.

    Raises ServingError.
    """
    if settings.session_service:
        raise invalid_argument(
            "SessionService cannot be served by several workers: a client may change variables, and each has its own"
        )
    tls = read_tls(settings)
    read_api_keys(settings.api_keys_file)  # here, for its errors: workers read it again
    ports = Ports(settings)
    # Workers share the memory that this takes.
    with suppress(ServingError):  # there is none: who asks for a model of it is told so
        tensorflow()
    if settings.op_libraries:
        load_op_libraries(settings.op_libraries)
    balance = Balance(NUM_PLACES, settings.workers)
    nursery = Nursery(lambda number, end: run_worker(settings, ports, tls, balance.seat(number), end))
    return lambda: Supervisor(settings, ports, balance, nursery)


class Supervisor:
    """Runs sources and a Manager as one process would; but the Manager's loaders load in all workers, and its
    gatekeeper looks at versions there.

    A state of a version reaches status answers, the log, and whoever waits for it, only once it holds in all workers.
    """

    def __init__(self, settings: Settings, ports: Ports, balance: Balance, nursery: Nursery) -> None:
        self.directory = Directory(settings.models)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises UNAVAILABLE when no new worker can be started any more."""
        self.ports: Ports | None = ports
        self._ports = ports
        self._stopping = False
        self._settings = settings
        self._nursery = nursery
        self._loop = asyncio.get_running_loop()
        self._crew = Crew(settings.workers, nursery, balance, self.directory, self._handle)
        self._platforms = platforms_of(settings)
        self._events: asyncio.Queue[ServableState] = asyncio.Queue()
        self._telling: asyncio.Task[None] | None = None
        bus = EventBus()
        bus.subscribe(self._on_event)
        self._registry = registry = Registry()
        self._examiner = examiner = CrewExaminer(self._crew, self._loop, lambda servable: self._folders[servable])
        self._folders: dict[ServableId, Folder] = {}
        """Of all versions that were to be loaded."""
        self.catalog = Catalog(settings, self.directory, self._loader, examiner, registry, bus)
        add_server_metrics(registry)
        add_process_metrics(registry)
        add_version_metrics(registry, self.directory.monitor)
        registry.add(Gauge("pyserving_workers", [], lambda: {(): self._crew.num_ready}))
        registry.add(Gauge("pyserving_worker_restarts_total", [], lambda: {(): self._crew.restarts}, only_grows=True))

    async def start(self) -> None:
        """Opens the ports: at once, or when all models are available. Raises ServingError."""
        await self._nursery.start()
        self._nursery.closed.add_done_callback(self._fail)
        await self._crew.start()
        self._telling = asyncio.ensure_future(self._tell())
        if self._settings.wait_for_models:
            self.catalog.start()
            await self.catalog.wait_until_available()
            await self._open_ports()
        else:
            await self._open_ports()
            self.catalog.start()
        self.catalog.follow_config()

    def retire(self) -> None:
        """See ``Front.retire``: in all workers."""
        self._crew.retire()

    async def stop(self) -> None:
        """Lets all workers end their requests within the grace period, and returns when they have exited."""
        self.catalog.stop_following()
        self._stopping = True
        # No new worker, and nobody but the workers holds the sockets open: they close them when they drain.
        self._nursery.close()
        self._ports.close()
        await self._crew.stop(2 * self._settings.grace_period + _STOP_SECONDS)
        await asyncio.to_thread(self.catalog.stop)
        if self._telling is not None:
            self._telling.cancel()
        logger.info("Stopped")

    async def _open_ports(self) -> None:
        self._ports.listen()
        await self._crew.accept()
        logger.info("Listening on %s", ", ".join(self._ports.addresses))

    def _fail(self, _: object) -> None:
        if not self._stopping:
            self.failed.set_exception(ServingError(Code.UNAVAILABLE, "The process that starts workers has ended"))

    async def _handle(self, message: object) -> object:
        """Answers a worker."""
        match message:
            case Reload(config):
                await self.catalog.reload(messages.ModelServerConfig.FromString(config))
                await self._crew.configure()
                return None
            case Promote(name, version, label):
                moved = await self.catalog.rollout.promote(name, version, label)
                await self._crew.configure()
                return moved
            case Rollback(name):
                moved = await self.catalog.rollout.rollback(name)
                await self._crew.configure()
                return moved
            case SetAspired(name, versions):
                return await self.catalog.set_aspired(name, versions)
            case Compared(servable, tally):
                self._examiner.compared(servable, tally)
                return None
            case CollectAll():
                return merge([self._registry.collect(), await self._crew.collect()])
            case _:
                raise ServingError(Code.UNIMPLEMENTED, f"a supervisor does not know {type(message).__name__}")

    def _on_event(self, event: ServableState) -> None:
        with suppress(RuntimeError):  # the loop is closed: a load outlived the server
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def _tell(self) -> None:
        """Passes on what the manager has posted."""
        while True:
            event = await self._events.get()
            if event.state is State.UNLOADING:
                await self._crew.withdraw(event.id)
            await self._crew.tell(event)
            self.directory.bus.post(event)
            self.directory.bus.deliver()

    def _loader(self, servable: ServableId, folder: Folder) -> Loader:
        estimate = self._platforms.loader(servable, folder.path, folder.platform).estimate_resources
        self._folders[servable] = folder
        return CrewLoader(servable, folder, estimate, self._settings.workers, self._crew, self._loop)


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """What a supervisor knows of a model that its workers have loaded."""

    signatures: Mapping[str, Signature]


class CrewLoader:
    """A ``Loader`` that loads a version in all workers; requests see it there once a gate admits it.

    Its methods are not called on the event loop.
    """

    def __init__(
        self,
        servable: ServableId,
        folder: Folder,
        estimate: Callable[[], Resources],
        num_workers: int,
        crew: Crew,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """``estimate``: what one worker needs for it."""
        self._id = servable
        self._folder = folder
        self._estimate = estimate
        self._num_workers = num_workers
        self._crew = crew
        self._loop = loop

    def estimate_resources(self) -> Resources:
        return Resources(self._estimate().ram_bytes * self._num_workers)

    def load(self) -> RemoteModel:
        loading = asyncio.run_coroutine_threadsafe(self._crew.load(self._id, self._folder), self._loop)
        return RemoteModel(loading.result())

    def unload(self) -> None:
        asyncio.run_coroutine_threadsafe(self._crew.unload(self._id), self._loop).result()
