"""kill -9 of a whole server under load, which is then started again: nothing that it was writing is taken for whole."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_clients import OK, Clients
from chaos_server import (
    LOADING,
    Folder,
    fill,
    kill_9,
    nothing_is_lost,
    running,
    serving,
    small_disk,
)
from chaos_store import BIG, bucket
from serving import Serving
from waiting import wait_until

from pyserving.acceleration.cache import Entry

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc to look at processes"),
]

Tell = Callable[[str, Clients], None]
SETTLED = "{name: cnn version: 1}, signature serving_default"
"""The log says which engine it goes to, or that it stays where it is."""
TOO_FULL = "openvino was not tried on .*(No space left|[, ][0-9]{1,4} bytes free)"


def ports(server: Serving) -> tuple[int, int]:
    return server.rest, server.grpc


def only_connections_were_lost(clients: Clients) -> None:
    nothing_is_lost(clients)
    assert clients.codes().keys() <= {OK, "connection lost", "gRPC UNAVAILABLE"}, clients.codes()


def with_cnn(folder: Folder, acceleration_folder: Path, cache: Path) -> list[str]:
    shutil.copytree(acceleration_folder / "cnn", folder.folder / "cnn")
    config = folder.configure()
    text = folder.config.read_text().removesuffix("}")
    cnn = f'config {{ name: "cnn" base_path: "{folder.folder}/cnn" model_platform: "tensorflow" }}'
    folder.config.write_text(f"{text} {cnn} }}")
    return [config, "--accelerate=openvino", f"--acceleration-cache={cache}", "--wait-for-models"]


def entries(cache: Path) -> list[Path]:
    """Of an acceleration cache: what any server would take for an entry."""
    return [path for path in cache.iterdir() if path.is_dir() and not path.name.startswith(".")]


@pytest.mark.parametrize("workers", [1, 2])
def test_while_the_next_version_loads(folder: Folder, tell: Tell, workers: int) -> None:
    arguments = (folder.configure(), "--python-models=on", "--wait-for-models", f"--workers={workers}")
    with serving(*arguments) as server, Clients(server, "half") as clients:
        folder.put_slow("half", 2)
        wait_until(lambda: LOADING in server.log(), "version 2 is loading")
        clients.broken()
        kill_9(server)
        with serving(*arguments, ports=ports(server)) as again:
            wait_until(lambda: folder.is_at(again, 2), "version 2 is available")
            clients.wait_for(500)
            clients.stop()
    tell(f"kill -9 of the whole server while the next version loads, and a start; workers: {workers}", clients)
    only_connections_were_lost(clients)


def test_while_the_next_version_is_fetched(folder: Folder, tell: Tell, models_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with bucket(next((models_folder / "half_plus_two_tf2").iterdir())) as store:
        store.put(1)
        arguments = [store.configure(tmp_path), f"--model-cache={cache}", "--bucket-poll=0.1", "--wait-for-models"]
        with serving(*arguments, env=store.env) as server, Clients(server, "half") as clients:
            store.proxy.passed, store.proxy.hold_after = 0, BIG // 2
            store.put(2, big=True)
            assert store.proxy.held.wait(30), server.log()
            clients.broken()
            kill_9(server)
            assert store.check_cache(cache) == {1}
            store.proxy.break_all()
            store.proxy.go_on()
            with serving(*arguments, env=store.env, ports=ports(server)) as again:
                assert folder.is_at(again, 2)
                assert 2 in store.check_cache(cache)
                clients.wait_for(500)
                clients.stop()
    tell("kill -9 of the whole server in the middle of a download from S3, and a start", clients)
    only_connections_were_lost(clients)


def test_while_another_engine_compiles(folder: Folder, tell: Tell, acceleration_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    arguments = with_cnn(folder, acceleration_folder, cache)
    with serving(*arguments) as server, Clients(server, "half") as clients:
        wait_until(lambda: bool(list(cache.glob(".new-*"))), "something is written to the cache")
        clients.broken()
        kill_9(server)
        assert all(Entry(str(cache), path.name).read() is not None for path in entries(cache))
        with serving(*arguments, ports=ports(server)) as again:
            wait_until(lambda: SETTLED in again.log(), "an engine is chosen")
            clients.wait_for(500)
            clients.stop()
        assert entries(cache)
        assert all(Entry(str(cache), path.name).read() is not None for path in entries(cache))
        assert not list(cache.glob(".new-*"))  # what the first one left
    tell("kill -9 of the whole server while it compiles for another engine, and a start", clients)
    only_connections_were_lost(clients)


def test_disk_full_for_the_acceleration_cache(
    folder: Folder, tell: Tell, acceleration_folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with small_disk(cache, 4):
        arguments = with_cnn(folder, acceleration_folder, cache)
        with serving(*arguments) as server, Clients(server, "half") as clients:
            wait_until(lambda: bool(running(server, "acceleration.trial_process")), "an engine is tried")
            clients.broken()
            fill(cache)
            wait_until(lambda: re.search(TOO_FULL, server.log()) is not None, "the log says so")
            clients.wait_for(500)
            assert not entries(cache)
            (cache / "filler").unlink()
            shutil.copytree(next((acceleration_folder / "cnn").iterdir()), folder.folder / "fresh")
            (folder.folder / "fresh").rename(folder.folder / "cnn" / "2")
            wait_until(lambda: SETTLED.replace("1}", "2}") in server.log(), "an engine is chosen for the next version")
            clients.wait_for(200)
            assert entries(cache)
            assert all(Entry(str(cache), path.name).read() is not None for path in entries(cache))
    tell("disk full for the acceleration cache, then room and the next version", clients)
    assert clients.codes().keys() == {OK}, clients.codes()
