"""A process that answers requests as its supervisor says."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pyserving.core.errors import Code, ServingError
from pyserving.monitoring.metrics import Family
from pyserving.protos import messages
from pyserving.server.channel import Channel, ChannelClosedError
from pyserving.server.control import (
    Accept,
    CollectAll,
    CollectOwn,
    Configure,
    Load,
    Reload,
    Serve,
    Stop,
    Tell,
    Unload,
    Withdraw,
)
from pyserving.server.directory import Directory
from pyserving.server.front import Front
from pyserving.server.ports import Ports, Tls
from pyserving.server.replica import Replica
from pyserving.server.settings import Settings
from pyserving.transport.balance import Seat
from pyserving.transport.loop import new_event_loop

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
        self._grace = settings.grace_period
        self._directory = Directory(settings.models)
        self._front = Front(settings, self._directory, self._reload, self._collect)
        self._replica = Replica(self._directory.serving, self._front.loaders.loader)
        self._open: Callable[[], Any] = lambda: self._front.accept(ports, tls, seat)

    async def handle(self, message: object) -> object:
        """Does what the supervisor asks for, and returns the answer."""
        directory, replica = self._directory, self._replica
        match message:
            case Configure(models, labels):
                directory.configure(models)
                directory.assign_labels(labels, lambda _: True)
            case Tell(states):
                for state in states:
                    directory.bus.post(state)
                directory.bus.deliver()
            case Load(servable, path, platform):
                return await replica.load(servable, path, platform)
            case Serve(servable):
                replica.serve(servable)
            case Withdraw(servable):
                replica.withdraw(servable)
            case Unload(servable):
                await replica.unload(servable)
            case Accept():
                await self._open()
            case CollectOwn():
                return self._front.metrics.collect()
            case Stop():
                self.stop_asked.set()
        return None

    async def stop(self) -> None:
        """Takes no new request, lets those in flight end within the grace period, then unloads all versions."""
        await self._front.drain()
        await self._replica.stop(self._grace)
        await self._front.stop()

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
