"""The file system source, with real folders."""

import logging
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.sources import file_system, version_choice
from pyserving.sources.file_system import FileSystemSource, MonitoredServable
from pyserving.sources.version_folders import VersionPath
from pyserving.sources.version_policy import All, Latest, Specific, VersionPolicy

ENDLESS = 3600
"""Seconds to the second poll: the tests poll by hand."""

pytestmark = pytest.mark.usefixtures("at_rest_at_once")


class Calls:
    """Keeps what the source calls back with."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[str, list[VersionPath]]] = queue.SimpleQueue()

    def __call__(self, name: str, versions: Sequence[VersionPath]) -> None:
        self.queue.put((name, list(versions)))

    def taken(self) -> list[tuple[str, list[int]]]:
        """What came since the last time."""
        taken = []
        while not self.queue.empty():
            name, versions = self.queue.get()
            taken.append((name, [version for version, _ in versions]))
        return taken


@pytest.fixture
def calls() -> Calls:
    return Calls()


MakeSource = Callable[..., FileSystemSource]


@pytest.fixture
def make_source(calls: Calls) -> Iterator[MakeSource]:
    sources = []

    def make(servables: Mapping[str, MonitoredServable], poll_wait_seconds: float = ENDLESS) -> FileSystemSource:
        source = FileSystemSource(servables, calls, poll_wait_seconds=poll_wait_seconds)
        sources.append(source)
        return source

    yield make
    for source in sources:
        source.stop()


def add_version(base_path: Path, name: str, *, model_file: bool = True) -> Path:
    folder = base_path / name
    folder.mkdir(parents=True)
    if model_file:
        (folder / "saved_model.pb").write_bytes(b"graph")
    return folder


def watch(base_path: Path, policy: VersionPolicy | None = None) -> dict[str, MonitoredServable]:
    return {"m": MonitoredServable(str(base_path), policy or Latest())}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base path with versions 1 and 2."""
    add_version(tmp_path / "base", "1")
    add_version(tmp_path / "base", "00000002")
    (tmp_path / "base" / "assets").mkdir()
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("policy", "versions"),
    [(Latest(), [2]), (Latest(5), [1, 2]), (All(), [1, 2]), (Specific(frozenset({1, 9})), [1])],
)
def test_start_offers_what_the_policy_chooses(
    base: Path, calls: Calls, make_source: MakeSource, policy: VersionPolicy, versions: list[int]
) -> None:
    make_source(watch(base, policy)).start()
    assert calls.taken() == [("m", versions)]


def test_a_base_path_that_is_itself_the_version(
    tmp_path: Path, base: Path, calls: Calls, make_source: MakeSource
) -> None:
    """Folders in it are not versions. It goes when nothing is left in it."""
    source = make_source({"m": MonitoredServable(str(tmp_path / "m"), unversioned=True)})
    (tmp_path / "m").mkdir()
    source.start()
    assert calls.taken() == [("m", [])]
    add_version(tmp_path, "m/2")
    (tmp_path / "m/saved_model.pb").write_bytes(b"graph")
    source.update({"m": MonitoredServable(str(tmp_path / "m"), unversioned=True)})
    source.poll()
    assert calls.queue.get(timeout=30) == ("m", [(1, str(tmp_path / "m"))])
    source.update({"m": MonitoredServable(str(tmp_path / "m"))})
    assert calls.queue.get(timeout=30) == ("m", [(2, str(tmp_path / "m/2"))])


def test_paths_are_those_of_the_version_folders(base: Path, calls: Calls, make_source: MakeSource) -> None:
    make_source({"m": MonitoredServable(f"{base}/", All()), "u": MonitoredServable(f"file://{base}")}).start()
    assert calls.queue.get() == ("m", [(1, f"{base}/1"), (2, f"{base}/00000002")])
    assert calls.queue.get() == ("u", [(2, f"{base}/00000002")])


def test_versions_come_and_go(base: Path, calls: Calls, make_source: MakeSource) -> None:
    source = make_source(watch(base))
    source.start()
    source.poll()
    assert calls.taken() == [("m", [2])]
    add_version(base, "10")
    source.poll()
    assert calls.taken() == [("m", [10])]
    shutil.rmtree(base / "10")
    source.poll()
    assert calls.taken() == [("m", [2])]
    shutil.rmtree(base / "00000002")
    shutil.rmtree(base / "1")
    source.poll()
    assert calls.taken() == [("m", [])]
    source.poll()
    assert calls.taken() == []


def test_a_version_in_a_linked_folder(tmp_path: Path, base: Path, calls: Calls, make_source: MakeSource) -> None:
    source = make_source(watch(base))
    source.start()
    (base / "3").symlink_to(add_version(tmp_path, "release"))
    (base / "4").write_text("a file is no version")
    source.poll()
    assert calls.taken() == [("m", [2]), ("m", [3])]


def test_a_folder_moved_in_is_offered_at_once(
    tmp_path: Path, base: Path, calls: Calls, make_source: MakeSource
) -> None:
    source = make_source(watch(base))
    source.start()
    add_version(tmp_path, "prepared").rename(base / "3")
    source.poll()
    assert calls.taken() == [("m", [2]), ("m", [3])]


def test_a_folder_that_is_being_copied_is_not_offered(
    base: Path, calls: Calls, make_source: MakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = make_source(watch(base))
    source.start()
    folder = add_version(base, "3", model_file=False)
    source.poll()
    source.poll()
    (folder / "variables").mkdir()
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"v")
    (folder / "saved_model.pb").write_bytes(b"graph")
    source.poll()
    assert calls.taken() == [("m", [2])]
    (folder / "variables" / "variables.index").write_bytes(b"i")
    source.poll()
    assert calls.taken() == [("m", [3])]
    assert caplog.text.count("still being written") == 1


def test_while_the_only_version_is_being_copied_the_old_one_stays(
    base: Path, calls: Calls, make_source: MakeSource
) -> None:
    source = make_source(watch(base))
    source.start()
    shutil.rmtree(base)
    folder = add_version(base, "3", model_file=False)
    source.poll()
    assert calls.taken() == [("m", [2])]
    (folder / "saved_model.pb").write_bytes(b"graph")
    source.poll()
    assert calls.taken() == [("m", [3])]


def test_an_empty_version_folder_is_offered_at_the_start_and_later_in_the_end(
    tmp_path: Path, calls: Calls, make_source: MakeSource
) -> None:
    add_version(tmp_path, "1", model_file=False)
    source = make_source(watch(tmp_path))
    source.start()
    assert calls.taken() == [("m", [1])]
    add_version(tmp_path, "2", model_file=False)
    for _ in range(10):
        source.poll()
    assert calls.taken() == []
    source.poll()
    assert calls.taken() == [("m", [2])]


def test_a_version_that_returns_must_settle_again(base: Path, calls: Calls, make_source: MakeSource) -> None:
    source = make_source(watch(base))
    source.start()
    shutil.rmtree(base / "00000002")
    source.poll()
    folder = add_version(base, "00000002", model_file=False)
    source.poll()
    assert calls.taken() == [("m", [2]), ("m", [1])]
    (folder / "saved_model.pb").write_bytes(b"graph")
    source.poll()
    assert calls.taken() == [("m", [2])]


def test_polling_once_waits_for_nothing_to_settle(
    base: Path, calls: Calls, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyserving.sources.settling._REST_NS", 3_600_000_000_000)
    before = set(threading.enumerate())  # a thread of an earlier test may still be ending
    make_source(watch(base), poll_wait_seconds=0).start()
    assert calls.taken() == [("m", [2])]
    assert set(threading.enumerate()) <= before


def test_a_missing_base_path_is_an_error_and_is_looked_for_again(
    tmp_path: Path, base: Path, calls: Calls, make_source: MakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    missing = tmp_path / "later"
    source = make_source({"gone": MonitoredServable(str(missing)), "m": MonitoredServable(str(base))})
    source.start()
    source.poll()
    assert calls.taken() == [("m", [2])]
    text = f"Could not find base path {missing} for servable gone with error NOT_FOUND: {missing} not found"
    assert {name: str(error) for name, error in source.errors.items()} == {"gone": f"INVALID_ARGUMENT: {text}"}
    logged = f"FileSystemStoragePathSource encountered a filesystem access error: {text}"
    assert [r.levelno for r in caplog.records if r.message == logged] == [logging.ERROR]
    add_version(missing, "1")
    source.poll()
    assert calls.taken() == [("gone", [1])]
    assert not source.errors


def test_a_base_path_that_vanishes_changes_nothing(base: Path, calls: Calls, make_source: MakeSource) -> None:
    source = make_source(watch(base))
    source.start()
    base.rename(base.with_name("away"))
    source.poll()
    assert source.errors["m"].code is Code.INVALID_ARGUMENT
    base.with_name("away").rename(base)
    source.poll()
    assert calls.taken() == [("m", [2])]
    assert not source.errors


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (PermissionError(13, "Permission denied"), "PERMISSION_DENIED: {base}; Permission denied"),
        (OSError(116, "Stale file handle"), "UNKNOWN: {base}; Stale file handle"),
        (NotADirectoryError(20, "Not a directory"), "FAILED_PRECONDITION: {base}; Not a directory"),
    ],
)
def test_a_base_path_that_cannot_be_read_changes_nothing(
    base: Path,
    calls: Calls,
    make_source: MakeSource,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    cause: str,
) -> None:
    source = make_source(watch(base))
    source.start()
    calls.taken()

    def refuse(_: str) -> object:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        source.poll()
    assert source.errors["m"].message.endswith(cause.format(base=base))
    add_version(base, "3")
    source.poll()
    assert calls.taken() == [("m", [3])]


def test_a_base_path_in_a_bucket_is_an_error(make_source: MakeSource) -> None:
    source = make_source({"m": MonitoredServable("gs://bucket/m")})
    source.start()
    assert source.errors["m"].message == (
        "Could not find base path gs://bucket/m for servable m with error "
        "UNIMPLEMENTED: File system scheme 'gs' not implemented (file: 'gs://bucket/m')"
    )


def test_no_version_is_warned_of_once(
    tmp_path: Path,
    calls: Calls,
    make_source: MakeSource,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (
        f"No versions of servable m found under base path {tmp_path}. "
        "Did you forget to name your leaf directory as a number (eg. '/1/')?"
    )
    (tmp_path / "first").mkdir()
    source = make_source(watch(tmp_path))
    source.start()
    source.poll()
    assert calls.taken() == [("m", [])]
    warnings = [(r.name, r.levelno) for r in caplog.records if r.message == text]
    assert warnings == [("pyserving.sources", logging.WARNING)]

    with monkeypatch.context() as patch:
        patch.setattr(version_choice, "_REPEAT_SECONDS", 0.0)
        source.poll()
    assert caplog.text.count(text) == 2

    shutil.rmtree(add_version(tmp_path, "1"))
    (tmp_path / "1").mkdir()
    source.poll()
    (tmp_path / "1").rmdir()
    source.poll()
    assert caplog.text.count(text) == 3


def test_missing_and_double_versions_are_warned_of(
    base: Path, make_source: MakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    add_version(base, "2")
    source = make_source(watch(base, Specific(frozenset({2, 9}))))
    source.start()
    source.poll()
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "Duplicate version directories detected. Version 2 will be loaded from 2, 00000002 will be ignored.",
        "Version 9 of servable m, which was requested to be served as a 'specific' version in the servable's version "
        "policy, was not found in the file system",
    ]


def test_update_watches_exactly_the_new_set(tmp_path: Path, base: Path, calls: Calls, make_source: MakeSource) -> None:
    other = tmp_path / "other"
    add_version(other, "7")
    source = make_source({"a": MonitoredServable(str(base)), "b": MonitoredServable(str(base))})
    source.start()
    calls.taken()
    source.update(
        {
            "b": MonitoredServable(str(base)),
            "c": MonitoredServable(str(other)),
            "d": MonitoredServable(str(tmp_path / "missing")),
        }
    )
    assert calls.taken() == [("a", []), ("c", [7])]
    assert source.errors.keys() == {"d"}
    source.update({})
    assert sorted(calls.taken()) == [("b", []), ("c", []), ("d", [])]
    source.poll()
    assert calls.taken() == []
    assert not source.errors


def test_update_of_policy_and_base_path(tmp_path: Path, base: Path, calls: Calls, make_source: MakeSource) -> None:
    source = make_source(watch(base))
    source.start()
    source.update(watch(base, All()))
    assert calls.taken() == [("m", [2]), ("m", [1, 2])]
    add_version(tmp_path / "other", "7")
    source.update(watch(tmp_path / "other"))
    assert calls.taken() == [("m", [7])]


def test_update_before_start_waits_for_start(base: Path, calls: Calls, make_source: MakeSource) -> None:
    source = make_source({})
    source.update(watch(base))
    assert calls.taken() == []
    source.start()
    assert calls.taken() == [("m", [2])]


def test_a_callback_that_fails_is_called_again(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    offered: list[list[int]] = []

    def fail_once(_: str, versions: Sequence[VersionPath]) -> None:
        offered.append([version for version, _ in versions])
        if len(offered) == 1:
            raise RuntimeError("not now")

    source = FileSystemSource(watch(base), fail_once, poll_wait_seconds=ENDLESS)
    source.start()
    assert "Could not pass on the versions of servable m" in caplog.text
    source.poll()
    source.poll()
    assert offered == [[2], [2]]
    source.stop()


def test_no_callback_comes_after_stop(base: Path, calls: Calls, make_source: MakeSource) -> None:
    source = make_source(watch(base))
    source.start()
    source.stop()
    calls.taken()
    add_version(base, "3")
    source.poll()
    source.update({})
    assert calls.taken() == []


def test_a_negative_wait_is_refused(calls: Calls) -> None:
    with pytest.raises(ServingError, match="file_system_poll_wait_seconds to be 0 or more; got -1"):
        FileSystemSource({}, calls, poll_wait_seconds=-1)


def test_the_thread_finds_new_versions_and_outlives_every_error(
    base: Path, calls: Calls, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_source(watch(base), poll_wait_seconds=0.01).start()
    assert calls.queue.get(timeout=10)[1][0].version == 2

    for error in (OSError(5, "Input/output error"), RuntimeError("a bug")):
        raised = threading.Event()

        def fail(_: str, error: Exception = error, raised: threading.Event = raised) -> None:
            raised.set()
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(file_system, "list_versions", fail)
            assert raised.wait(10)

    add_version(base, "3")
    assert calls.queue.get(timeout=10)[1][0].version == 3
