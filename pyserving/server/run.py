"""Runs a server from its start to its end, as a process does: signals stop it."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from pyserving.core.errors import invalid_argument
from pyserving.server.catalog import Catalog
from pyserving.server.directory import Directory
from pyserving.server.ports import Ports
from pyserving.server.readiness import require_ready
from pyserving.server.server import Server
from pyserving.server.settings import Settings
from pyserving.server.supervisor import prepare_supervisor
from pyserving.transport.loop import new_event_loop

logger = logging.getLogger("pyserving.server")

_THREADS_END = 1.0
"""Seconds that threads get to end once everything has stopped."""


class _Serves(Protocol):
    """A server, in one process or in several."""

    directory: Directory
    catalog: Catalog
    failed: asyncio.Future[None]
    """Raises ServingError if it cannot go on."""

    @property
    def ports(self) -> Ports | None: ...

    async def start(self) -> None: ...

    def retire(self) -> None: ...

    async def stop(self) -> None: ...


OnModelsSettled = Callable[[Directory, Ports], None]


def run(settings: Settings, *, on_models_settled: OnModelsSettled = lambda *_: None) -> int:
    """Serves until SIGTERM or SIGINT; then drains, and returns the exit code. A second signal ends the process.

    ``on_models_settled`` is called once every model is available or has failed; what it raises is logged. Raises
    ServingError where the server cannot start, or cannot go on.
    """
    if settings.workers < 1:
        raise invalid_argument(f"Expected 1 worker or more, got {settings.workers}")
    new_server = partial(Server, settings) if settings.workers == 1 else prepare_supervisor(settings)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        code = runner.run(_run(new_server, settings, on_models_settled))
    _leave_threads_behind(code)
    return code


async def _run(new_server: Callable[[], _Serves], settings: Settings, on_models_settled: OnModelsSettled) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def on_signal(number: int) -> None:
        if stopped.is_set():
            logger.warning("Second signal: ending at once")
            os._exit(128 + number)
        logger.info("%s: draining; a second signal ends at once", signal.Signals(number).name)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, on_signal, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda n, _: loop.call_soon_threadsafe(on_signal, n))

    server = new_server()
    serving = asyncio.ensure_future(_serve(server, on_models_settled))
    stop = asyncio.ensure_future(stopped.wait())
    late = asyncio.ensure_future(_late(server.directory, settings.ready_timeout))
    ends: list[asyncio.Future[Any]] = [stop, server.failed, late]
    try:
        # A failure to start ends the wait, and so does a signal, even while models still load.
        await asyncio.wait([serving, *ends], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in (server.failed, late):
            if end.done():
                end.result()
        server.retire()
        await asyncio.sleep(settings.drain_delay)
    finally:
        serving.cancel()
        stop.cancel()
        late.cancel()
        await server.stop()
    return 0


async def _late(directory: Directory, timeout: float | None) -> None:
    """Raises DEADLINE_EXCEEDED if the models are not available in time; else it never returns."""
    if timeout is not None:
        await require_ready(directory, timeout)
    await asyncio.get_running_loop().create_future()


async def _serve(server: _Serves, on_models_settled: OnModelsSettled) -> None:
    await server.start()
    await server.catalog.wait_until_settled()
    # What there is now stays. A full collection would go through it with the GIL held, 30 ms, in the middle of a load.
    gc.collect()
    gc.freeze()
    try:
        if server.ports is not None:
            on_models_settled(server.directory, server.ports)
    except (Exception, SystemExit):  # rich exits where nobody reads what it prints; a server need not
        logger.warning("Could not show what is served", exc_info=True)


def _leave_threads_behind(code: int) -> None:
    """Ends the process if an engine call outlasts the grace period: the interpreter would wait for it without end."""
    end = time.monotonic() + _THREADS_END
    threads = [t for t in threading.enumerate() if not t.daemon and t is not threading.current_thread()]
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    left = sum(thread.is_alive() for thread in threads)
    if left:
        logger.warning("Ending while %d runs go on: they took longer than the grace period", left)
        sys.stdout.flush()
        os._exit(code)
