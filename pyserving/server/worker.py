"""A process that answers requests as its supervisor says."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServedVersion
from pyserving.core.servable import ServableId
from pyserving.monitoring.metrics import Family
from pyserving.protos import messages
from pyserving.server.channel import Channel, ChannelClosedError
from pyserving.server.control import (
    Accept,
    BeginMirror,
    CheckAnswers,
    CheckLatency,
    CollectAll,
    CollectOwn,
    Compared,
    Configure,
    EndMirror,
    Examined,
    GiveUpCheck,
    Load,
    Promote,
    Reload,
    Retire,
    Rollback,
    Serve,
    SetAspired,
    Stop,
    Tell,
    Unload,
    Withdraw,
)
from pyserving.server.directory import Directory
from pyserving.server.examiner import LocalExaminer
from pyserving.server.front import Front
from pyserving.server.gatekeeper import Check
from pyserving.server.ports import Ports, Tls
from pyserving.server.replica import Replica
from pyserving.server.rollout_rules import GateRules
from pyserving.server.settings import Settings
from pyserving.transport.balance import Seat
from pyserving.transport.loop import new_event_loop
from pyserving.validation.report import Tally

T = TypeVar("T")

logger = logging.getLogger("pyserving.server")


def run_worker(settings: Settings, ports: Ports, tls: Tls, seat: Seat, end: socket.socket) -> int:
    """Works until the supervisor says stop, or has gone; returns the exit code. ``end``: of the channel to it."""
    # The generator is a copy of the supervisor's: without this, all workers would draw the same.
    np.random.seed()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(_with_share_of_threads(settings), ports, tls, seat, end))
    return 0


async def _run(settings: Settings, ports: Ports, tls: Tls, seat: Seat, end: socket.socket) -> None:
    worker = _Worker(settings, ports, tls, seat)
    channel = worker.channel = await Channel.open(end, worker.handle)
    stop = asyncio.ensure_future(worker.stop_asked.wait())
    await asyncio.wait([stop, channel.closed], return_when=asyncio.FIRST_COMPLETED)
    if worker.retired and not stop.done():
        os._exit(1)  # a second signal ended the supervisor at once
    stopping = asyncio.ensure_future(worker.stop())
    if stop.done():
        await asyncio.wait([stopping, channel.closed], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            os._exit(1)  # a second signal ended the supervisor at once
    else:
        logger.error("The supervisor has gone: draining")
    await stopping
    channel.close()


class _Worker:
    channel: Channel

    def __init__(self, settings: Settings, ports: Ports, tls: Tls, seat: Seat) -> None:
        self.stop_asked = asyncio.Event()
        self.retired = False
        self._grace = settings.grace_period
        self._directory = Directory(settings.models)
        self._front = front = Front(settings, self._directory, self._reload, self, self._collect)
        self._replica = replica = Replica(self._directory.serving, front.loaders.loader)
        self._examiner = LocalExaminer(front.aside, front.mirrors, lambda servable: replica.version(servable)[1])
        self._checks: dict[ServableId, Check] = {}
        self._loop = asyncio.get_running_loop()
        self._open: Callable[[], Any] = lambda: self._front.accept(ports, tls, seat)

    async def handle(self, message: object) -> object:
        """Does what the supervisor asks for, and returns the answer."""
        directory, replica = self._directory, self._replica
        match message:
            case Configure(models, labels, defaults, gate_reports):
                directory.configure(models)
                directory.assign_labels(labels, lambda _: True)
                directory.direct_all(defaults)
                directory.gate_reports = gate_reports
            case Examined(servable, report):
                directory.examined(servable, report)
            case Tell(states):
                for state in states:
                    directory.bus.post(state)
                directory.bus.deliver()
            case Load(servable, folder):
                return await replica.load(servable, folder)
            case Serve(servable):
                replica.serve(servable)
            case Withdraw(servable):
                replica.withdraw(servable)
            case Unload(servable):
                await replica.unload(servable)
            case CheckAnswers(servable, rules):
                return await self._examine(servable, lambda *given: self._examiner.check_answers(*given), rules)
            case CheckLatency(servable, rules):
                return await self._examine(servable, lambda *given: self._examiner.check_latency(*given), rules)
            case GiveUpCheck(servable):
                if check := self._checks.get(servable):
                    check.give_up()
            case BeginMirror(servable, tolerance):
                version, _ = replica.version(servable)
                self._front.mirrors.begin(version, tolerance, partial(self._tell_compared, servable))
            case EndMirror(servable):
                self._front.mirrors.end(servable)
            case Accept():
                await self._open()
            case CollectOwn():
                return self._front.metrics.collect()
            case Retire():
                self.retired = True
                self._front.retire()
            case Stop():
                self.stop_asked.set()
        return None

    async def stop(self) -> None:
        """Takes no new request, lets those in flight end within the grace period, then unloads all versions."""
        await self._front.drain()
        await self._replica.stop(self._grace)
        await self._front.stop()

    async def promote(self, name: str, version: int | None, label: str | None) -> tuple[int, int]:
        """See ``Rollout.promote``."""
        moved: tuple[int, int] = await self._ask(Promote(name, version, label))
        return moved

    async def rollback(self, name: str) -> tuple[int, int]:
        """See ``Rollout.rollback``."""
        moved: tuple[int, int] = await self._ask(Rollback(name))
        return moved

    async def set_aspired(self, name: str, versions: Mapping[int, str]) -> Mapping[int, str]:
        """See ``Catalog.set_aspired``."""
        aspired: Mapping[int, str] = await self._ask(SetAspired(name, versions))
        return aspired

    async def _examine(
        self, servable: ServableId, examine: Callable[[ServedVersion, GateRules, Check], T], rules: GateRules
    ) -> T:
        version, _ = self._replica.version(servable)
        check = self._checks[servable] = Check()
        try:
            return await asyncio.to_thread(examine, version, rules, check)
        finally:
            del self._checks[servable]

    def _tell_compared(self, servable: ServableId, tally: Tally) -> None:
        self._loop.call_soon_threadsafe(self.channel.send, Compared(servable, tally))

    async def _reload(self, config: messages.ModelServerConfig) -> None:
        await self._ask(Reload(config.SerializeToString()))

    async def _collect(self) -> list[Family]:
        families: list[Family] = await self._ask(CollectAll())
        return families

    async def _ask(self, message: object) -> Any:
        try:
            return await self.channel.call(message)
        except ChannelClosedError:
            raise ServingError(Code.UNAVAILABLE, "the server is stopping") from None


def _with_share_of_threads(settings: Settings) -> Settings:
    """Where nothing else is said, an operation may take as many threads as a worker has cores."""
    options = settings.session_options
    if options.config_proto().intra_op_parallelism_threads:
        return settings
    cores = max(1, (os.cpu_count() or 1) // settings.workers)
    return replace(settings, session_options=replace(options, intra_op_parallelism=cores))
