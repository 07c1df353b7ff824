"""An object store goes away under load, or the disk that its versions are fetched to is full."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_clients import OK, Clients
from chaos_server import Folder, fill, serving, small_disk
from chaos_store import BIG, Bucket, bucket
from serving import SERVE
from waiting import wait_until

pytestmark = pytest.mark.chaos

Tell = Callable[[str, Clients], None]


@pytest.fixture
def store(models_folder: Path) -> Iterator[Bucket]:
    with bucket(next((models_folder / "half_plus_two_tf2").iterdir())) as store:
        store.put(1)
        yield store


@pytest.fixture
def arguments(store: Bucket, tmp_path: Path) -> list[str]:
    return [store.configure(tmp_path), f"--model-cache={tmp_path}/cache", "--bucket-poll=0.1"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_store_is_gone_while_it_is_polled(
    store: Bucket, arguments: list[str], folder: Folder, tell: Tell, workers: int
) -> None:
    with serving(*arguments, f"--workers={workers}", env=store.env) as server, Clients(server, "half") as clients:
        clients.broken()
        store.proxy.down = True
        store.proxy.break_all()
        wait_until(lambda: "UNAVAILABLE: s3://models/half" in server.log(), "the log says so")
        clients.wait_for(500)
        store.proxy.down = False
        store.put(2)
        wait_until(lambda: folder.is_at(server, 2), "the next version is available")
        clients.wait_for(200)
    tell(f"S3 gone while it is polled, then back with a new version; workers: {workers}", clients)
    assert clients.codes().keys() == {OK}, clients.codes()


def test_the_store_is_gone_in_the_middle_of_a_download(
    store: Bucket, arguments: list[str], folder: Folder, tell: Tell, tmp_path: Path
) -> None:
    with serving(*arguments, env=store.env) as server, Clients(server, "half") as clients:
        clients.broken()
        store.proxy.passed, store.proxy.cut_after = 0, BIG // 2
        store.put(2, big=True)
        wait_until(lambda: "Version 2 of half could not be fetched" in server.log(), "the log says so")
        clients.wait_for(500)
        assert store.check_cache(tmp_path / "cache") == {1}
        store.proxy.cut_after = None
        wait_until(lambda: folder.is_at(server, 2), "the next version is available")
        clients.wait_for(200)
    assert 2 in store.check_cache(tmp_path / "cache")
    tell("S3 gone in the middle of a download, then back", clients)
    assert clients.codes().keys() == {OK}, clients.codes()


@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="needs root, for names of its own")
def test_the_name_of_the_store_is_gone(
    store: Bucket, arguments: list[str], folder: Folder, tell: Tell, tmp_path: Path
) -> None:
    """The server sees a list of hosts of its own, and no name server."""
    known = "127.0.0.1 localhost s3.us-east-1.amazonaws.com models.s3.us-east-1.amazonaws.com\n"
    hosts, resolver = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text(known)
    resolver.write_text("nameserver 127.0.0.254\noptions timeout:1 attempts:1\n")
    mounts = f"mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf"
    command = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', sys.argv[0], *SERVE]
    env = {**store.env, "AWS_ENDPOINT_URL": f"http://s3.us-east-1.amazonaws.com:{store.proxy.port}"}
    with serving(*arguments, env=env, command=command) as server, Clients(server, "half") as clients:
        clients.broken()
        hosts.write_text("127.0.0.1 localhost\n")
        store.proxy.break_all()
        wait_until(lambda: "UNAVAILABLE: s3://models/half" in server.log(), "the log says so")
        clients.wait_for(500)
        hosts.write_text(known)
        store.put(2)
        wait_until(lambda: folder.is_at(server, 2), "the next version is available")
        clients.wait_for(200)
    tell("DNS has lost the name of S3, then knows it again", clients)
    assert clients.codes().keys() == {OK}, clients.codes()


def test_disk_full_for_the_model_cache(
    store: Bucket, arguments: list[str], folder: Folder, tell: Tell, tmp_path: Path
) -> None:
    """There is room when the download begins, and none any more when it writes; then none when it begins."""
    with small_disk(tmp_path / "cache", 3 * BIG >> 20):
        with serving(*arguments, env=store.env) as server, Clients(server, "half") as clients:
            clients.broken()
            store.proxy.passed, store.proxy.hold_after = 0, BIG // 2
            store.put(2, big=True)
            assert store.proxy.held.wait(30), server.log()
            fill(tmp_path / "cache")
            store.proxy.go_on()
            wait_until(lambda: "No space left" in server.log(), "the log says so")
            wait_until(lambda: "bytes free" in str(server.get("/v1/models/half")), "the state says so")
            clients.wait_for(500)
            assert store.check_cache(tmp_path / "cache") == {1}
            (tmp_path / "cache" / "filler").unlink()
            wait_until(lambda: folder.is_at(server, 2), "the next version is available")
            clients.wait_for(200)
        assert 2 in store.check_cache(tmp_path / "cache")
    tell("disk full for the model cache in the middle of a download, then room", clients)
    assert clients.codes().keys() == {OK}, clients.codes()
