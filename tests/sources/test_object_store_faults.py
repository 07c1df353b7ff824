"""Faults in the middle of a download, and numbers of requests: S3, Google Cloud Storage and Azure, as emulators have
them, over real sockets."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from object_stores import VERSION_FILES, Fault, HttpProxy
from waiting import wait_until

from benchmarks.running import free_port
from pyserving.core.errors import Code
from pyserving.core.state import ServableState
from pyserving.server.settings import Settings
from pyserving.sources.file_system import MonitoredServable
from pyserving.sources.object_store import download
from pyserving.sources.object_store.cache import ModelCache
from pyserving.sources.object_store.source import ObjectStoreSource
from pyserving.sources.object_store.store import ObjectStore
from pyserving.sources.version_folders import VersionPath

pytestmark = pytest.mark.stores

KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""That Azure's emulators have; it is public."""
DATA = "variables/variables.data-00000-of-00001"


class Store:
    """A bucket behind a proxy."""

    def __init__(self, url: str, proxy: HttpProxy, put: Callable[[str, bytes], object]) -> None:
        self.url = url
        self.proxy = proxy
        self._put = put

    def below(self, name: str) -> "Store":
        return Store(f"{self.url}/{name}", self.proxy, lambda path, content: self._put(f"{name}/{path}", content))

    def put(self, version: int, files: Mapping[str, bytes]) -> None:
        for path, content in files.items():
            self._put(f"{version}/{path}", content)
        self._put(f"{version}/_SUCCESS", b" ")


def s3(stack: ExitStack, env: dict[str, str]) -> Store:
    moto_server = pytest.importorskip("moto.server", reason="needs the group stores")
    s3fs = pytest.importorskip("s3fs", reason="needs the extra s3")
    import boto3
    from botocore.config import Config

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    stack.callback(server.stop)
    port = server.get_host_and_port()[1]
    proxy = HttpProxy(port)
    env.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{proxy.port}",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_MAX_ATTEMPTS="1",
    )
    s3fs.S3FileSystem.retries = 1
    session = boto3.Session("test", "test", region_name="us-east-1")
    # Without a CRC beside the object, which newer clients send, and s3fs checks: there is the ETag alone.
    config = Config(request_checksum_calculation="when_required")
    client: Any = session.client("s3", endpoint_url=f"http://127.0.0.1:{port}", config=config)
    client.create_bucket(Bucket="faults")
    return Store("s3://faults", proxy, lambda path, content: client.put_object(Bucket="faults", Key=path, Body=content))


def gcs(stack: ExitStack, env: dict[str, str]) -> Store:
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="needs the group stores")
    pytest.importorskip("gcsfs", reason="needs the extra gcs")
    import requests

    port = free_port()
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="faults")
    server.start()
    stack.callback(server.stop)
    proxy = HttpProxy(port)
    env.update(STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{proxy.port}", GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT="false")

    def put(path: str, content: bytes) -> None:
        requests.post(
            f"http://127.0.0.1:{port}/upload/storage/v1/b/faults/o",
            params={"uploadType": "media", "name": path},
            data=content,
            headers={"Content-Type": "application/octet-stream"},
            timeout=10,
        ).raise_for_status()

    return Store("gs://faults", proxy, put)


def azure(stack: ExitStack, env: dict[str, str]) -> Store:
    installed = Path(sys.prefix) / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    program = shutil.which("azurite-blob") or (str(installed) if installed.exists() else None)
    if program is None:
        pytest.skip("needs azurite (make .venv/.stores, where npm is there)")
    pytest.importorskip("adlfs", reason="needs the extra azure")
    from azure.storage.blob import BlobServiceClient

    port = free_port()
    process = subprocess.Popen(
        [
            program,
            "--inMemoryPersistence",
            "--skipApiVersionCheck",
            "--disableTelemetry",
            "--silent",
            f"--blobPort={port}",
        ],
        stdout=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    wait_until(lambda: is_open(port))
    proxy = HttpProxy(port)

    def connection(port: int) -> str:
        return (
            "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
            f"AccountKey={KEY};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
        )

    env["AZURE_STORAGE_CONNECTION_STRING"] = connection(proxy.port)
    container = BlobServiceClient.from_connection_string(connection(port)).create_container("faults")
    stack.callback(container.close)
    return Store("az://faults", proxy, lambda path, content: container.upload_blob(path, content, overwrite=True))


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module", params=[s3, gcs, azure], ids=["s3", "gcs", "azure"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    env: dict[str, str] = {}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "_FIRST_WAIT_SECONDS", 0.01)
        if request.param is azure:
            retries = pytest.importorskip("azure.storage.blob._shared.policies_async", reason="needs the extra azure")
            patch.setattr(retries.ExponentialRetry, "get_backoff_time", lambda *_: 0.01)  # of 15 s
        store = request.param(stack, env)
        stack.callback(store.proxy.close)
        for name, value in env.items():
            patch.setenv(name, value)
        yield store


class Watched:
    """A model of its own in the store, and the source that looks at it."""

    def __init__(self, store: Store, name: str, cache: Path) -> None:
        self.store = Store(
            f"{store.url}/{name}", store.proxy, lambda path, content: store._put(f"{name}/{path}", content)
        )
        self.offers: list[list[VersionPath]] = []
        self.states: list[ServableState] = []
        self._cache = cache
        self.source: ObjectStoreSource | None = None

    @property
    def numbers(self) -> list[int]:
        return [version for version, _ in self.offers[-1]] if self.offers else []

    def start(self) -> None:
        self.source = ObjectStoreSource(
            {"m": MonitoredServable(self.store.url)},
            lambda _, versions: self.offers.append(list(versions)),
            ModelCache(str(self._cache)),
            on_state=self.states.append,
            poll_wait_seconds=0.05,
        )
        self.source.start()

    def files(self) -> dict[str, bytes]:
        root = Path(self.offers[-1][0].path)
        found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        found.pop("_SUCCESS")
        return found


@pytest.fixture
def watched(store: Store, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    """With version 1, which is there."""
    name = f"model{abs(hash(request.node.name))}"
    watched = Watched(store, name, tmp_path / "cache")
    watched.store.put(1, VERSION_FILES)
    watched.start()
    try:
        wait_until(lambda: watched.numbers == [1])
        yield watched
    finally:
        store.proxy.harm(None)
        assert watched.source is not None
        watched.source.stop()


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_that_passes_is_got_over(watched: Watched, fault: Fault) -> None:
    proxy = watched.store.proxy
    proxy.harm(fault, times=1)
    second = {**VERSION_FILES, DATA: os.urandom(200_000)}
    watched.store.put(2, second)
    wait_until(lambda: watched.numbers == [2])
    assert proxy.happened == 1
    assert watched.files() == second


@pytest.mark.parametrize("fault", [Fault.TRUNCATED, Fault.WRONG])
def test_a_fault_that_stays_is_told_and_nothing_of_it_is_served(watched: Watched, fault: Fault) -> None:
    proxy = watched.store.proxy
    proxy.harm(fault)
    second = {**VERSION_FILES, DATA: os.urandom(200_000)}
    watched.store.put(2, second)
    wait_until(lambda: any(state.error is not None for state in watched.states))
    assert watched.numbers == [1]
    error = next(state.error for state in watched.states if state.error is not None)
    assert error.code is (Code.DATA_LOSS if fault is Fault.WRONG else Code.UNAVAILABLE), error
    proxy.harm(None)
    wait_until(lambda: watched.numbers == [2])
    assert watched.files() == second


def test_a_start_that_cannot_fetch_serves_the_older_version_of_the_cache(watched: Watched) -> None:
    assert watched.source is not None
    watched.source.stop()
    proxy = watched.store.proxy
    proxy.harm(Fault.TRUNCATED)
    second = {**VERSION_FILES, DATA: os.urandom(200_000)}
    watched.store.put(2, second)
    watched.offers.clear()
    watched.start()
    wait_until(lambda: bool(watched.offers))
    assert watched.numbers == [1]
    assert watched.files() == VERSION_FILES
    proxy.harm(None)
    wait_until(lambda: watched.numbers == [2])
    assert watched.files() == second


def test_a_look_is_one_request_or_two_of_azure(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default there is one look a minute for each model: 43,200 a month."""
    assert Settings([]).bucket_poll_wait == 60
    looks = 0
    look = ObjectStore.list_versions
    proxy = watched.store.proxy

    def counted(store: ObjectStore) -> Any:
        nonlocal looks
        looks += 1
        return look(store)

    assert watched.source is not None
    watched.source.stop()
    monkeypatch.setattr(ObjectStore, "list_versions", counted)
    watched.offers.clear()
    watched.start()  # what is in the cache is not fetched again: the first look alone takes another list
    wait_until(lambda: watched.numbers == [1])
    first, since = looks, len(proxy.requests)
    wait_until(lambda: looks >= first + 5)
    watched.source.stop()
    asked = proxy.requests[since:]
    each = 2 if watched.store.url.startswith("az:") else 1
    assert each * (looks - first - 1) <= len(asked) <= each * (looks - first), asked
    assert {method for method, _ in asked} == {"GET"}
