"""Replicas of one model with a barrier between them, in this process and without Ray."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from linear_models import write_linear

from pyserving.api.exchange import HttpRequest
from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.ray.barrier import Barrier, Picture, Report
from pyserving.ray.replica import Replica
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig

SETTINGS = Settings(
    [], python_options=PythonOptions(PythonModels.ON), poll_wait=0.02, max_num_load_retries=0, metrics_path=""
)


def replica(barrier: Barrier, base: Path, name: str) -> Replica:
    async def sync(report: Report, known: Picture | None) -> Picture:
        return await barrier.sync(name, report, known)

    return Replica(SETTINGS, ModelConfig("m", str(base)), sync)


async def answer(replica: Replica, what: str = "") -> bytes:
    request = HttpRequest("POST", f"/v1/models/m{what}:predict", {}, b'{"instances": [0.0]}')
    return (await replica.handlers.http(request)).body


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def state(replica: Replica, version: int) -> State | None:
    found = replica.directory.monitor.state(ServableId("m", version))
    return found and found.state


def test_a_new_version_is_told_of_once_all_replicas_serve_it(tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1)

    async def scene() -> None:
        barrier = Barrier()
        replicas = [replica(barrier, base, name) for name in "ab"]
        for one in replicas:
            await one.start()
        write_linear(base, 2)
        for one in replicas:
            await until(lambda one=one: state(one, 2) is State.AVAILABLE)  # type: ignore[misc]
            # Whoever tells of it: every replica answers with it.
            assert [b"2.0" in await answer(other, "/versions/2") for other in replicas] == [True, True]
        for one in replicas:
            await until(lambda one=one: state(one, 1) is State.END)  # type: ignore[misc]
            await one.stop()

    asyncio.run(scene())


def test_a_version_that_one_replica_cannot_load_is_refused_by_the_others(tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1)
    lock = tmp_path / "lock"

    async def scene() -> None:
        barrier = Barrier()
        replicas = [replica(barrier, base, name) for name in "ab"]
        for one in replicas:
            await one.start()
        write_linear(base, 2, source=ONCE.replace("LOCK", str(lock)))
        for one in replicas:
            await until(lambda one=one: state(one, 2) is State.END)  # type: ignore[misc]
            assert b"1.0" in await answer(one)
        errors = [one.directory.monitor.state(ServableId("m", 2)).error.message for one in replicas]  # type: ignore[union-attr]
        assert sum("could not load it" in error for error in errors) == 1, errors
        # A replica that comes now finds the newest version broken, and loads the one that the others serve.
        write_linear(base, 3, source="raise RuntimeError('no good')")
        for one in replicas:
            await until(lambda one=one: state(one, 3) is State.END)  # type: ignore[misc]
        late = replica(barrier, base, "c")
        await late.start()
        assert b"1.0" in await answer(late)
        for one in (*replicas, late):
            await one.stop()

    asyncio.run(scene())


def test_a_replica_without_a_version_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyserving.ray.replica._FIND_SECONDS", 0.2)
    (tmp_path / "m").mkdir()

    async def scene() -> None:
        one = replica(Barrier(), tmp_path / "m", "a")
        with pytest.raises(ServingError, match="No version of model m is found under") as missing:
            await one.start()
        assert missing.value.code is Code.NOT_FOUND
        await one.stop()

    asyncio.run(scene())


ONCE = """
import os
import numpy as np
from pyserving import Model, Tensor

os.open("LOCK", os.O_CREAT | os.O_EXCL)  # whoever comes second fails

class Linear(Model):
    def predict(self, x: Tensor[np.float32, None]) -> {{"y": Tensor[np.float32, None]}}:
        return {{"y": x + 2}}
"""
