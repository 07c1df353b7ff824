"""Versions from S3, as moto has it, over real sockets: found, fetched, resumed, evicted."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from object_stores import VERSION_FILES, FaultyProxy
from waiting import wait_until

from pyserving.core.errors import Code, ServingError
from pyserving.core.state import ServableState, State
from pyserving.sources.file_system import MonitoredServable
from pyserving.sources.object_store import cache as cache_module
from pyserving.sources.object_store import download
from pyserving.sources.object_store.cache import ModelCache
from pyserving.sources.object_store.source import ObjectStoreSource
from pyserving.sources.object_store.store import ObjectStore
from pyserving.sources.version_folders import VersionPath
from pyserving.sources.version_policy import All, Latest, Specific, VersionPolicy

moto_server = pytest.importorskip("moto.server", reason="needs the group stores")
boto3 = pytest.importorskip("boto3")
s3fs = pytest.importorskip("s3fs", reason="needs the extra s3")

pytestmark = pytest.mark.stores

BASE = "s3://models/m"


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def proxy(moto: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Before an S3 without objects."""
    proxy = FaultyProxy(moto)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setattr(download, "_FIRST_WAIT_SECONDS", 0.01)
    yield proxy
    proxy.close()


@pytest.fixture
def bucket(proxy: FaultyProxy, moto: int) -> Any:
    s3 = boto3.resource("s3", endpoint_url=f"http://127.0.0.1:{moto}")
    bucket = s3.Bucket("models")
    bucket.create()
    bucket.objects.all().delete()
    return bucket


def put(bucket: Any, version: int, files: Mapping[str, bytes] = VERSION_FILES) -> None:
    for path, content in files.items():
        bucket.put_object(Key=f"m/{version}/{path}", Body=content)


@dataclass
class Seen:
    """What a source said."""

    offers: list[list[VersionPath]] = field(default_factory=list)
    states: list[ServableState] = field(default_factory=list)
    used: set[int] = field(default_factory=set)

    @property
    def numbers(self) -> list[int]:
        return [version for version, _ in self.offers[-1]] if self.offers else []

    def errors(self) -> list[ServingError]:
        return [state.error for state in self.states if state.error is not None]


class Watch:
    """A source over one model."""

    def __init__(self, root: Path, policy: VersionPolicy | None = None, *, poll: float = 0.05, keep: int = 2) -> None:
        self.seen = seen = Seen()
        self.source = ObjectStoreSource(
            {"m": MonitoredServable(BASE, policy or Latest())},
            lambda _, versions: seen.offers.append(list(versions)),
            ModelCache(str(root), keep=keep),
            on_state=seen.states.append,
            in_use=lambda _: seen.used,
            poll_wait_seconds=poll,
        )

    def __enter__(self) -> Seen:
        self.source.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self.source.stop()


def files(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("policy", "numbers"), [(Latest(), [3]), (Latest(2), [2, 3]), (All(), [1, 2, 3]), (Specific(frozenset({2})), [2])]
)
def test_the_policy_says_what_is_fetched(
    bucket: Any, tmp_path: Path, policy: VersionPolicy, numbers: Sequence[int]
) -> None:
    for version in (1, 2, 3):
        put(bucket, version, {**VERSION_FILES, "assets/number.txt": b"%d" % version})
    bucket.put_object(Key="m/readme/text", Body=b"no version")
    bucket.put_object(Key="m/3/", Body=b"")  # an object that stands for a folder
    with Watch(tmp_path, policy) as seen:
        wait_until(lambda: seen.numbers == numbers)
        for version, folder in seen.offers[-1]:
            assert files(folder) == {**VERSION_FILES, "assets/number.txt": b"%d" % version}
    fetched = {path.name for path in tmp_path.glob("*/*/*") if path.is_dir()}
    assert fetched == {str(number) for number in numbers}


def test_a_version_that_still_grows_is_not_fetched(bucket: Any, tmp_path: Path) -> None:
    put(bucket, 1)
    with Watch(tmp_path) as seen:
        wait_until(lambda: seen.numbers == [1])
        put(bucket, 2, {"variables/variables.index": b"index", "saved_model.pb": b"graph"})
        bucket.put_object(Key="m/2/variables/variables.data-00000-of-00002", Body=b"half")
        wait_until(lambda: len(files(str(tmp_path))) >= 3)
        threading.Event().wait(0.4)  # several looks
        assert seen.numbers == [1]
        bucket.put_object(Key="m/2/variables/variables.data-00001-of-00002", Body=b"the rest")
        wait_until(lambda: seen.numbers == [2])


def test_a_marker_says_that_a_version_is_whole(bucket: Any, proxy: FaultyProxy, tmp_path: Path) -> None:
    put(bucket, 1, {"some.model": b"of a kind that nobody knows", "_SUCCESS": b""})
    watch = Watch(tmp_path, poll=3600)
    with watch as seen:
        wait_until(lambda: seen.numbers == [1])


def test_what_is_gone_in_the_store_is_not_aspired(bucket: Any, tmp_path: Path) -> None:
    put(bucket, 1)
    put(bucket, 2)
    watch = Watch(tmp_path)
    with watch as seen:
        wait_until(lambda: seen.numbers == [2])
        bucket.objects.filter(Prefix="m/2/").delete()
        wait_until(lambda: seen.numbers == [1])
        bucket.objects.all().delete()  # the base path itself
        wait_until(lambda: "m" in watch.source.errors)
        assert watch.source.errors["m"].code is Code.NOT_FOUND
        assert seen.numbers == [1]


def test_a_download_that_is_cut_off_goes_on_where_it_was(
    bucket: Any, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CHUNK", 1 << 18)
    weights = os.urandom(4 << 20)
    put(bucket, 1)
    with Watch(tmp_path, poll=0.1) as seen:
        wait_until(lambda: seen.numbers == [1])
        proxy.passed = 0
        proxy.cut_after = 2 << 20
        put(bucket, 2, {**VERSION_FILES, "variables/variables.data-00000-of-00001": weights})
        wait_until(lambda: bool(seen.errors()))
        assert seen.numbers == [1]
        failed = seen.errors()[0]
        assert failed.code is Code.UNAVAILABLE
        assert "Version 2 of m could not be fetched from s3://models/m" in failed.message
        kept = sum(len(content) for content in files(str(tmp_path)).values())
        assert 1 << 20 < kept < 3 << 20
        proxy.cut_after = None
        proxy.passed = 0
        wait_until(lambda: seen.numbers == [2])
        assert files(seen.offers[-1][0].path)["variables/variables.data-00000-of-00001"] == weights
        assert proxy.passed < 3 << 20


def test_a_store_that_has_gone_changes_nothing(
    bucket: Any, proxy: FaultyProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(bucket, 1)
    watch = Watch(tmp_path)
    with watch as seen:
        wait_until(lambda: seen.numbers == [1])
        proxy.down = True
        proxy.break_all()
        wait_until(lambda: "m" in watch.source.errors)
        assert watch.source.errors["m"].code is Code.UNAVAILABLE
        threading.Event().wait(0.3)
        assert len(seen.offers) == 1
        assert sum("UNAVAILABLE" in record.message for record in caplog.records) == 1
        proxy.down = False
        put(bucket, 2)
        wait_until(lambda: seen.numbers == [2])
        assert not watch.source.errors


def test_a_start_without_the_store_serves_from_the_cache(bucket: Any, proxy: FaultyProxy, tmp_path: Path) -> None:
    put(bucket, 1)
    with Watch(tmp_path) as seen:
        wait_until(lambda: seen.numbers == [1])
    proxy.down = True
    proxy.break_all()
    with Watch(tmp_path) as seen:
        wait_until(lambda: seen.numbers == [1])
        assert files(seen.offers[-1][0].path) == VERSION_FILES
        proxy.down = False
        put(bucket, 2)
        wait_until(lambda: seen.numbers == [2])


def test_versions_that_nobody_uses_are_evicted(bucket: Any, tmp_path: Path) -> None:
    with Watch(tmp_path, keep=1) as seen:
        for version in (1, 2, 3, 4):
            seen.used = {1}
            put(bucket, version)
            wait_until(lambda version=version: seen.numbers == [version])
        # 1 is used, 4 is aspired, 3 is kept.
        wait_until(lambda: {path.name for path in tmp_path.glob("*/*/*") if path.is_dir()} == {"1", "3", "4"})


def test_what_another_server_uses_stays(bucket: Any, tmp_path: Path) -> None:
    put(bucket, 1)
    with Watch(tmp_path, Specific(frozenset({1})), keep=0) as other:
        wait_until(lambda: other.numbers == [1])
        with Watch(tmp_path, keep=0) as seen:
            wait_until(lambda: seen.numbers == [1])
            assert seen.offers == other.offers
            put(bucket, 2)
            wait_until(lambda: seen.numbers == [2])
            put(bucket, 3)
            wait_until(lambda: seen.numbers == [3])
            wait_until(lambda: {path.name for path in tmp_path.glob("*/*/*") if path.is_dir()} == {"1", "3"})


def test_a_full_disk_is_told_and_tried_again(
    bucket: Any, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, 1)
    with Watch(tmp_path) as seen:
        wait_until(lambda: seen.numbers == [1])
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage._replace(free=100))
        put(bucket, 2)
        wait_until(lambda: bool(seen.errors()))
        assert seen.errors()[0].code is Code.RESOURCE_EXHAUSTED
        assert "100 bytes free" in seen.errors()[0].message
        assert seen.numbers == [1]
        monkeypatch.undo()
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.port}"
        wait_until(lambda: seen.numbers == [2])
    states = [state.state for state in seen.states if state.id.version == 2]
    assert states == [State.START, State.END]


def test_a_wrong_checksum_is_never_served(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, 1)
    read = ObjectStore.read
    reads = iter(range(1000))

    def other_each_time(store: ObjectStore, *arguments: Any) -> bytes:
        return bytes(len(read(store, *arguments)) - 8) + next(reads).to_bytes(8, "big")

    monkeypatch.setattr(ObjectStore, "read", other_each_time)
    small = {name: content for name, content in VERSION_FILES.items() if len(content) > 8}
    put(bucket, 2, small)
    with Watch(tmp_path, Specific(frozenset({2}))) as seen:
        wait_until(lambda: bool(seen.errors()))
        assert seen.errors()[0].code in (Code.DATA_LOSS, Code.UNAVAILABLE, Code.UNKNOWN)
        monkeypatch.setattr(ObjectStore, "read", read)
        wait_until(lambda: seen.numbers == [2])
        assert files(seen.offers[-1][0].path) == small


def test_names_that_lead_out_of_the_folder_are_refused(bucket: Any, tmp_path: Path) -> None:
    put(bucket, 1, {**VERSION_FILES, "assets/../../../escaped": b"x"})
    watch = Watch(tmp_path / "cache")
    with watch:
        wait_until(lambda: "m" in watch.source.errors)
        assert "has a name that no file can have" in watch.source.errors["m"].message
    assert not list(tmp_path.rglob("escaped"))


KILLED = """
import sys, threading
from pyserving.sources.file_system import MonitoredServable
from pyserving.sources.object_store import download
from pyserving.sources.object_store.cache import ModelCache
from pyserving.sources.object_store.source import ObjectStoreSource
download.CHUNK = 1 << 16
source = ObjectStoreSource(
    {"m": MonitoredServable("s3://models/m")}, lambda *_: None, ModelCache(sys.argv[1]), poll_wait_seconds=0
)
source.start()
threading.Event().wait()
"""


def test_a_server_killed_in_the_middle_leaves_nothing_that_seems_whole(
    bucket: Any, proxy: FaultyProxy, tmp_path: Path
) -> None:
    weights = os.urandom(8 << 20)
    put(bucket, 1, {**VERSION_FILES, "variables/variables.data-00000-of-00001": weights})
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    try:
        wait_until(lambda: sum(map(len, files(str(tmp_path)).values())) > 1 << 20)
    finally:
        process.kill()
        process.wait()
    had = sum(map(len, files(str(tmp_path)).values()))
    if not list(tmp_path.glob("*/*/1")):
        assert had < 8 << 20
    proxy.passed = 0
    with Watch(tmp_path) as seen:
        wait_until(lambda: seen.numbers == [1])
        assert files(seen.offers[-1][0].path)["variables/variables.data-00000-of-00001"] == weights
    assert proxy.passed < (8 << 20) - had + (1 << 20)
