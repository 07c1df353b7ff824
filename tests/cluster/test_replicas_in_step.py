"""Replicas of one model with a barrier between them, in this process and without Ray."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from linear_models import write_linear

from pyserving.api.exchange import HttpRequest
from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.ray.barrier import Barrier, Picture, Report
from pyserving.ray.replica import Replica
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig, config_of
from pyserving.sources.version_policy import All

SETTINGS = Settings(
    [],
    python_options=PythonOptions(PythonModels.ON),
    poll_wait=0.02,
    max_num_load_retries=0,
    metrics_path="",
    allow_labels_for_unavailable=True,
)


def replica(barrier: Barrier, base: Path, name: str, **config: Any) -> Replica:
    async def sync(report: Report, known: Picture | None) -> Picture:
        return await barrier.sync(name, report, known)

    return Replica(SETTINGS, ModelConfig("m", str(base), **config), sync)


def packed(base: Path, **config: Any) -> bytes:
    """What a barrier tells of the config file."""
    return config_of([ModelConfig("m", str(base), **config)]).SerializeToString()


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


def test_a_replica_whose_newest_version_fails_first_waits_for_the_one_that_the_others_serve(tmp_path: Path) -> None:
    base, open_door = tmp_path / "m", tmp_path / "door"
    open_door.touch()
    write_linear(base, 1, source=SLOW.replace("DOOR", str(open_door)))

    async def scene() -> None:
        barrier = Barrier()
        early = replica(barrier, base, "a")
        await early.start()
        open_door.unlink()
        write_linear(base, 2, source="raise RuntimeError('no good')")
        late = replica(barrier, base, "b")
        starting = asyncio.ensure_future(late.start())
        await until(lambda: starting.done() or state(late, 2) is State.END)
        open_door.touch()
        await starting
        assert b"1.0" in await answer(late)
        for one in (early, late):
            await one.stop()

    asyncio.run(scene())


def test_a_replica_that_cannot_load_what_the_others_serve_says_so(tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1, source=ONCE.replace("LOCK", str(tmp_path / "lock")))
    write_linear(base, 2)

    async def scene() -> None:
        barrier = Barrier()
        early, late = (replica(barrier, base, name, version_policy=All()) for name in "ab")
        await early.start()
        await until(lambda: state(early, 1) is State.AVAILABLE)
        with pytest.raises(
            ServingError, match=r"Version 1 of the model, which other replicas serve, failed here: .*lock"
        ):
            await late.start()
        for one in (early, late):
            await one.stop()

    asyncio.run(scene())


def test_a_replica_whose_default_version_is_not_there_says_so(tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1)
    options = messages.ModelOptions(traffic=messages.TrafficOptions(default_version=7))

    async def scene() -> None:
        one = replica(Barrier(), base, "a", options=options)
        with pytest.raises(ServingError, match="Model m cannot answer: its default version 7 is not found"):
            await one.start()
        await one.stop()

    asyncio.run(scene())


def test_a_replica_that_starts_does_what_the_config_file_says_before_it_answers(tmp_path: Path) -> None:
    base = tmp_path / "m"
    for version in (1, 2):
        write_linear(base, version)

    async def scene() -> None:
        barrier = Barrier()
        barrier.config = packed(base, version_policy=All(), labels={"stable": 2})
        one = replica(barrier, base, "a", version_policy=All(), labels={"stable": 1})
        await one.start()
        await until(lambda: state(one, 1) is State.AVAILABLE)
        assert b"2.0" in await answer(one, "/labels/stable")
        await one.stop()

    asyncio.run(scene())


def test_a_config_that_cannot_be_applied_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyserving.ray.follower._TRY_AGAIN", 0.05)
    write_linear(tmp_path / "m", 1)

    async def scene() -> None:
        barrier = Barrier()
        one = replica(barrier, tmp_path / "m", "a")
        await one.start()
        # The folder is not there yet, as on a node that sees it later.
        barrier.config = packed(tmp_path / "moved", labels={"stable": 3})
        await until(lambda: one.directory.models[0].base_path.endswith("moved"))
        write_linear(tmp_path / "moved", 3)
        async with asyncio.timeout(30):
            while b"3.0" not in await answer(one, "/labels/stable"):
                await asyncio.sleep(0.02)
        await one.stop()

    asyncio.run(scene())


def test_a_replica_goes_on_reporting_after_a_report_was_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyserving.ray.follower._PAUSE", 0.01)
    base = tmp_path / "m"
    write_linear(base, 1)

    async def scene() -> None:
        barrier = Barrier()
        failures: list[BaseException] = []

        async def sync(report: Report, known: Picture | None) -> Picture:
            if failures:
                raise failures.pop()
            return await barrier.sync("a", report, known)

        one = Replica(SETTINGS, ModelConfig("m", str(base)), sync)
        await one.start()
        failures += [asyncio.CancelledError(), OSError("unreachable")]
        write_linear(base, 2)
        await until(lambda: state(one, 2) is State.AVAILABLE)
        assert failures == []
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

SLOW = """
import os
import time
import numpy as np
from pyserving import Model, Tensor

while not os.path.exists("DOOR"):
    time.sleep(0.01)

class Linear(Model):
    def predict(self, x: Tensor[np.float32, None]) -> {{"y": Tensor[np.float32, None]}}:
        return {{"y": x + 1}}
"""
