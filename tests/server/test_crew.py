"""What a supervisor does about its workers, as far as no whole server is needed for it."""

import asyncio
import signal
import socket
import subprocess
import sys
from unittest.mock import Mock

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.core.resources import Resources
from pyserving.core.servable import ServableId
from pyserving.monitoring.metrics import Family
from pyserving.server import crew
from pyserving.server.channel import Channel
from pyserving.server.control import CollectOwn, Withdraw
from pyserving.server.crew import WorkerProcess
from pyserving.server.folder import Folder
from pyserving.server.nursery import Child
from pyserving.server.supervisor import CrewLoader


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_a_worker_that_does_not_do_what_it_is_told_is_ended(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "ANSWER_SECONDS", 0.1 if how == "hangs" else 30.0)

    async def handler(_: object) -> None:
        if how == "fails":
            raise ServingError(Code.INTERNAL, "a bug")
        await asyncio.Event().wait()

    async def nothing(_: object) -> None: ...

    async def main(pid: int) -> None:
        ends = socket.socketpair()
        far = await Channel.open(ends[1], handler)
        near = await Channel.open(ends[0], nothing)
        worker = WorkerProcess(0, Child(pid, ends[0], asyncio.get_running_loop().create_future()), near)
        await asyncio.wait_for(worker.tell(Withdraw(ServableId("m", 1))), 20)
        near.close()
        await asyncio.wait([near.closed, far.closed])

    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        asyncio.run(main(process.pid))
        assert process.wait(20) == -signal.SIGKILL


def test_what_a_worker_counted_is_known_though_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "KEEP_SECONDS", 0.01)
    asked = 0

    async def handler(message: object) -> list[Family]:
        nonlocal asked
        assert isinstance(message, CollectOwn)
        asked += 1
        return [Family("requests", "counter", (), {(): asked})]

    async def nothing(_: object) -> None: ...

    async def main() -> None:
        ends = socket.socketpair()
        far = await Channel.open(ends[1], handler)
        near = await Channel.open(ends[0], nothing)
        worker = WorkerProcess(0, Child(0, ends[0], asyncio.get_running_loop().create_future()), near)
        remembering = asyncio.ensure_future(crew.remember_metrics(worker))
        async with asyncio.timeout(20):
            while not worker.metrics or worker.metrics[0].values[()] < 2:
                await asyncio.sleep(0.01)
        remembering.cancel()
        near.close()
        await asyncio.wait([near.closed, far.closed])

    asyncio.run(main())


def test_every_worker_needs_memory_of_its_own() -> None:
    loader = CrewLoader(ServableId("m", 1), Folder("/m/1", "tensorflow"), lambda: Resources(10), 3, Mock(), Mock())
    assert loader.estimate_resources() == Resources(30)
