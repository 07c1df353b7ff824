"""The workers of a server, and what they do together."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState
from pyserving.monitoring.merge import merge, only_growing
from pyserving.monitoring.metrics import Family
from pyserving.platforms.model import Signature
from pyserving.server.channel import Channel, ChannelClosedError, Handler
from pyserving.server.control import (
    Accept,
    CollectOwn,
    Configure,
    Examined,
    Load,
    Retire,
    Serve,
    Stop,
    Tell,
    Unload,
    Withdraw,
)
from pyserving.server.directory import Directory
from pyserving.server.folder import Folder
from pyserving.server.nursery import Child, Nursery
from pyserving.transport.balance import Balance

ANSWER_SECONDS = 30.0
"""So long a worker may take to answer what takes no time. One that takes longer hangs, and all wait for it: it is
killed, and another takes its place."""
COLLECT_SECONDS = 2.0
"""So long its metrics are waited for."""
KEEP_SECONDS = 2.0
"""Between two times that a worker tells its metrics without being asked for a page: what it counted after the last is
lost when it is killed. Numbers in shared memory would lose nothing, and cost every request several times as much."""
REPLACEMENT_SECONDS = 30.0
"""So long a load waits for the successor of a worker that has ended in it."""
_MAX_RESTART_WAIT = 30.0
_LIVED = 60.0
"""A worker that lived for so many seconds did not die of how it started."""

logger = logging.getLogger("pyserving.server")


class WorkerProcess:
    """One process, from its start to its end."""

    def __init__(self, number: int, child: Child, channel: Channel) -> None:
        self.number = number
        self.pid = child.pid
        self.ended = child.ended
        self.channel = channel
        self.has: set[ServableId] = set()
        """What it has loaded."""
        self.asked: set[ServableId] = set()
        """What it was told to load and not yet to unload."""
        self.metrics: Sequence[Family] = ()
        """As it told them last."""

    async def load(self, servable: ServableId, folder: Folder) -> Mapping[str, Signature]:
        self.asked.add(servable)
        try:
            answer = await self.channel.call(Load(servable, folder))
        except ServingError:
            self.asked.discard(servable)
            raise
        self.has.add(servable)
        signatures: Mapping[str, Signature] = answer
        return signatures

    async def unload(self, servable: ServableId) -> None:
        self.has.discard(servable)
        self.asked.discard(servable)
        await self.channel.call(Unload(servable))

    async def tell(self, message: object) -> None:
        """Returns when it has heard, or has ended. One that cannot do what it is told is no use: it is ended."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.channel.call(message)
        except ChannelClosedError:
            pass
        except TimeoutError:
            logger.error("Worker %d (process %d) does not answer: ending it", self.number, self.pid)
            self.kill()
        except ServingError as error:
            logger.error("Worker %d (process %d) is ended: %s", self.number, self.pid, error)
            self.kill()

    def kill(self) -> None:
        if not self.ended.done():
            os.kill(self.pid, signal.SIGKILL)


class Crew:
    """Starts workers, and others in the place of those that end; loads, serves and unloads versions in all of them.

    A worker takes part (``_ready``) once it has all versions that are served; only then it accepts connections. Used on
    one event loop.
    """

    def __init__(self, size: int, nursery: Nursery, balance: Balance, directory: Directory, handler: Handler) -> None:
        """``handler`` answers the workers."""
        self._size = size
        self._nursery = nursery
        self._balance = balance
        self._directory = directory
        self._handler = handler
        self._connected: list[WorkerProcess] = []
        """Those that run."""
        self._ready: list[WorkerProcess] = []
        """Those of them that take part."""
        self._ready_changed = asyncio.Condition()
        self._served: dict[ServableId, Folder] = {}
        """What requests see."""
        self._states: dict[ServableId, ServableState] = {}
        """What was told of each version at last."""
        self._accepting = False
        self._retired = False
        self._stopping = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self._past_metrics: Sequence[Family] = ()
        """What workers had counted that have ended since."""
        self.restarts = 0
        directory.subscribe(self._configure)

    @property
    def num_ready(self) -> int:
        return len(self._ready)

    async def start(self) -> None:
        """Starts them; returns when all take part. Raises UNAVAILABLE where they cannot be started."""
        loop = asyncio.get_running_loop()
        self._directory.subscribe_to_defaults(lambda: loop.call_soon_threadsafe(self._configure))
        self._directory.subscribe_to_gate_reports(
            lambda *report: loop.call_soon_threadsafe(self._tell_connected, Examined(*report))
        )
        self._keepers = [asyncio.ensure_future(self._keep(number)) for number in range(self._size)]
        await self._until_ready(self._size)

    async def accept(self) -> None:
        """From now on they take connections."""
        self._accepting = True
        await self._tell(self._ready, Accept())

    def retire(self) -> None:
        """From now on none is ready, nor is one that starts."""
        self._retired = True
        for worker in self._connected:
            worker.channel.send(Retire())

    async def stop(self, grace: float) -> None:
        """Lets them end the requests in flight, and returns when they have ended: after ``grace`` seconds by force."""
        self._stopping.set()
        async with self._ready_changed:
            self._ready_changed.notify_all()
        for worker in self._connected:
            worker.channel.send(Stop())
        try:
            async with asyncio.timeout(grace):
                await asyncio.shield(asyncio.gather(*self._keepers))
        except TimeoutError:
            for worker in self._connected:
                logger.warning("Worker %d (process %d) does not end: ending it", worker.number, worker.pid)
                worker.kill()
            await asyncio.gather(*self._keepers)

    async def load(self, servable: ServableId, folder: Folder) -> Mapping[str, Signature]:
        """Loads a version in every worker, where requests do not see it yet. Returns its signatures.

        Raises ServingError where one could not load it, or where more than one ended over it; then no worker has it.
        """
        signatures: Mapping[str, Signature] = {}
        num_ended = 0
        while not self._ready or any(servable not in worker.has for worker in self._ready):
            if not self._ready:
                await self._until_ready(1)
            lacking = [worker for worker in self._ready if servable not in worker.has]
            outcomes = await asyncio.gather(*(w.load(servable, folder) for w in lacking), return_exceptions=True)
            failure: ServingError | None = None
            for outcome in outcomes:
                match outcome:
                    case ServingError():
                        failure = outcome
                    case ChannelClosedError():
                        num_ended += 1
                    case BaseException():
                        raise outcome
                    case _:
                        signatures = outcome
            if num_ended > 1 and failure is None:
                failure = ServingError(
                    Code.UNAVAILABLE, f"{num_ended} worker processes ended as they loaded {servable}"
                )
            if failure is not None:
                await self.unload(servable)
                raise ServingError(failure.code, failure.message)
            if num_ended:
                # Whether that was because of this version, the successor will show.
                await self._until_ready(self._size)
        return signatures

    async def serve(self, servable: ServableId, folder: Folder) -> None:
        """Lets requests see a version in every worker. Raises ServingError, see ``load``."""
        await self.load(servable, folder)  # those that began to take part since the first load
        # Nothing was waited for since all were seen to have it: who begins to take part later finds it here.
        self._served[servable] = folder
        await self._tell(self._ready, Serve(servable))

    async def ask_one(self, servable: ServableId, question: object) -> Any:
        """The answer of a worker that has the version loaded. Raises ServingError."""
        for _ in range(2):
            worker = next((worker for worker in self._ready if servable in worker.has), None)
            if worker is None:
                break
            with suppress(ChannelClosedError):  # another may know
                return await worker.channel.call(question)
        raise ServingError(Code.UNAVAILABLE, f"No worker process is there that has {servable}")

    def tell_all(self, message: object) -> None:
        """Sends what needs no answer to all workers that take part."""
        for worker in self._ready:
            worker.channel.send(message)

    async def withdraw(self, servable: ServableId) -> None:
        """Returns when no worker gives the version to a request any more."""
        self._served.pop(servable, None)
        await self._tell(self._connected, Withdraw(servable))

    async def unload(self, servable: ServableId) -> None:
        """Returns when no worker has the version any more; raises ServingError if that went wrong somewhere."""
        self._served.pop(servable, None)
        having = [worker for worker in self._connected if servable in worker.asked]
        outcomes = await asyncio.gather(*(worker.unload(servable) for worker in having), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, ServingError):
                raise ServingError(outcome.code, outcome.message)

    async def tell(self, state: ServableState) -> None:
        """Returns when all workers know that a version is in this state."""
        self._states[state.id] = state
        await self._tell(self._connected, Tell([state]))

    async def configure(self) -> None:
        """Returns when all workers know the models and labels that there are now."""
        await self._tell(self._connected, self._configuration())

    async def collect(self) -> list[Family]:
        """The metrics of all workers, those that have ended included."""
        await asyncio.gather(*map(_collect, self._connected))
        return merge([self._past_metrics, *(worker.metrics for worker in self._connected)])

    async def _keep(self, number: int) -> None:
        """Sees to it that there is a worker ``number``."""
        early_ends = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                await self._live(number)
            except ServingError as error:  # the nursery has gone
                logger.error("Worker %d: %s", number, error.message)
                return
            if self._stopping.is_set():
                return
            self.restarts += 1
            early_ends = 0 if time.monotonic() - began > _LIVED else early_ends + 1
            if early_ends > 1:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(_MAX_RESTART_WAIT, 0.1 * 2**early_ends)):
                        await self._stopping.wait()

    async def _live(self, number: int) -> None:
        """One worker, from its start to its end."""
        child = await self._nursery.fork(number)
        channel = await Channel.open(child.end, self._handler)
        worker = WorkerProcess(number, child, channel)
        self._connected.append(worker)
        if self._stopping.is_set():
            channel.send(Stop())
        joining = asyncio.ensure_future(self._join(worker))
        remembering = asyncio.ensure_future(remember_metrics(worker))
        ends: list[asyncio.Future[Any]] = [child.ended, channel.closed]
        # A process that the worker has started, and left behind, may keep the channel open.
        await asyncio.wait([joining, *ends], return_when=asyncio.FIRST_COMPLETED)
        if joining.done() and (error := joining.exception()) and not isinstance(error, ChannelClosedError):
            logger.error("Worker %d (process %d) cannot take part: %s", number, child.pid, error)
            worker.kill()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        joining.cancel()
        remembering.cancel()
        channel.close()
        self._connected.remove(worker)
        if worker in self._ready:
            self._ready.remove(worker)
        self._balance.seat(number).leave()
        self._past_metrics = merge([self._past_metrics, only_growing(worker.metrics)])
        if not self._stopping.is_set():
            await asyncio.wait([child.ended], timeout=1)
            logger.error("Worker %d (process %d) ended%s", number, child.pid, _reason(child.ended))

    async def _join(self, worker: WorkerProcess) -> None:
        """Gives a new worker all that the others have, and lets it take part."""
        worker.channel.send(self._configuration())
        worker.channel.send(Tell(list(self._states.values())))
        if self._retired:
            worker.channel.send(Retire())
        while missing := self._served.keys() - worker.has:
            await asyncio.gather(*(worker.load(servable, self._served[servable]) for servable in missing))
        # Nothing is waited for from here on, so that nothing can be served in between.
        for servable in self._served:
            worker.channel.send(Serve(servable))
        if self._accepting:
            worker.channel.send(Accept())
        self._ready.append(worker)
        logger.info("Worker %d (process %d) takes part", worker.number, worker.pid)
        async with self._ready_changed:
            self._ready_changed.notify_all()

    async def _until_ready(self, count: int) -> None:
        """Waits until so many workers take part, for a while. Raises UNAVAILABLE where not one does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REPLACEMENT_SECONDS), self._ready_changed:
                await self._ready_changed.wait_for(lambda: len(self._ready) >= count or self._stopping.is_set())
        if not self._ready:
            raise ServingError(Code.UNAVAILABLE, "No worker process is running")

    async def _tell(self, workers: Iterable[WorkerProcess], message: object) -> None:
        await asyncio.gather(*(worker.tell(message) for worker in workers))

    def _configuration(self) -> Configure:
        directory = self._directory
        return Configure(directory.models, directory.labels.all, directory.defaults, directory.gate_reports)

    def _configure(self) -> None:
        self._tell_connected(self._configuration())

    def _tell_connected(self, message: object) -> None:
        for worker in self._connected:
            worker.channel.send(message)


async def remember_metrics(worker: WorkerProcess) -> None:
    """Keeps ``worker.metrics`` fresh, without an end."""
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        await _collect(worker)


async def _collect(worker: WorkerProcess) -> None:
    with suppress(TimeoutError, ChannelClosedError):
        async with asyncio.timeout(COLLECT_SECONDS):
            worker.metrics = await worker.channel.call(CollectOwn())


def _reason(ended: asyncio.Future[int]) -> str:
    if not ended.done():
        return ""
    code = ended.result()
    return f" with exit code {code}" if code >= 0 else f": {signal.Signals(-code).name}"
