"""The files of a request log and the thread that writes them: rotation, a full disk, too much to write."""

import logging
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.server import request_log_files, request_log_writer
from pyserving.server.request_log_files import RequestLogFiles, Rotation
from pyserving.server.request_log_writer import RequestLogWriter
from pyserving.wire.tfrecord import frame_record, read_records

HEAD_AND_TAIL = len(frame_record(b""))


def records_of(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(read_records(file))


def all_files(folder: Path) -> list[list[bytes]]:
    return [records_of(path) for path in sorted(folder.iterdir())]


def open_files(folder: Path) -> list[str]:
    """Those in ``folder`` that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            found.append(str(link.readlink()))
    return [path for path in found if path.startswith(str(folder))]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """What a full disk does, without one: part of a write succeeds, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The texts of the warnings so far."""
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_names_tell_prefix_time_process_and_number(tmp_path: Path) -> None:
    files = RequestLogFiles(str(tmp_path / "new" / "folder" / "m"), Rotation(max_seconds=3600))
    assert files.append([b"one"]) == 1
    files.close()
    (path,) = (tmp_path / "new" / "folder").iterdir()
    prefix, begun, process, number = path.name.removesuffix(".tfrecord").split("-")
    assert (prefix, process, number) == ("m", str(os.getpid()), "0000")
    assert len(begun) == len("20250101T000000Z")
    assert begun.endswith("Z")


def test_a_record_is_in_the_file_as_soon_as_it_was_written(tmp_path: Path) -> None:
    files = RequestLogFiles(str(tmp_path / "m"), Rotation())
    for number in range(3):
        assert files.append([b"%d" % number]) == 1
        assert all_files(tmp_path) == [[b"0", b"1", b"2"][: number + 1]]
    files.close()


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=8), max_size=6), st.integers(1, 150))
def test_files_hold_as_many_records_as_fit_and_at_least_one(batches: list[list[int]], max_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = RequestLogFiles(f"{folder}/m", Rotation(max_bytes=max_bytes))
        records = [[bytes([number % 256]) * number for number in batch] for batch in batches]
        for batch in records:
            assert files.append(batch) == len(batch)
        files.close()
        found = all_files(Path(folder))
    assert list(chain(*found)) == list(chain(*records)), "all of them, in their order"
    sizes = [[HEAD_AND_TAIL + len(record) for record in file] for file in found]
    for file, following in pairwise(sizes):
        assert sum(file) + following[0] > max_bytes, "the next one would not have fitted"
    assert all(len(file) == 1 or sum(file) <= max_bytes for file in sizes)


def test_nothing_is_ever_written_over(tmp_path: Path) -> None:
    for _ in range(3):
        files = RequestLogFiles(str(tmp_path / "m"), Rotation())
        assert files.append([b"mine"]) == 1
        files.close()
    assert all_files(tmp_path) == [[b"mine"]] * 3


def test_a_full_disk_loses_records_but_spoils_none(
    tmp_path: Path, warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log_files, "RETRY_SECONDS", 0.0)
    files = RequestLogFiles(str(tmp_path / "m"), Rotation())
    with no_file_larger_than(170):
        written = [files.append([bytes([number]) * 50]) for number in range(4)]
        refused = [files.append([b"y" * 500]) for _ in range(5)]
        part = files.append([b"a" * 50, b"b" * 50, b"c" * 50, b"d" * 50])
    assert written == [1, 1, 0, 1], "a new file is begun after a failure"
    assert refused == [0] * 5
    assert part == 2
    assert files.append([b"after"]) == 1
    files.close()
    assert all_files(tmp_path) == [[b"\0" * 50, b"\1" * 50], [b"\3" * 50], [b"a" * 50, b"b" * 50], [b"after"]], (
        "no empty files are left"
    )
    assert len(warnings()) == 2, "one for each time that it begins"
    assert all("cannot be written, serving goes on" in text for text in warnings())


def test_after_a_failure_nothing_is_tried_for_a_while(tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
    (tmp_path / "file").touch()
    files = RequestLogFiles(str(tmp_path / "file" / "m"), Rotation())
    assert files.append([b"one"]) == 0
    (tmp_path / "file").unlink()
    assert files.append([b"two"]) == 0, "though it could be written now"
    assert len(warnings()) == 1


def test_the_writer_writes_what_was_offered_until_it_stops(tmp_path: Path) -> None:
    writer = RequestLogWriter()
    for number in range(100):
        writer.offer(str(tmp_path / f"m{number % 2}"), b"%d" % number)
    writer.stop()
    even, odd = all_files(tmp_path)
    assert even == [b"%d" % number for number in range(0, 100, 2)]
    assert odd == [b"%d" % number for number in range(1, 100, 2)]
    assert (writer.written, writer.dropped, writer.failed) == (100, 0, 0)


def test_a_writer_without_work_has_no_thread_and_stops() -> None:
    RequestLogWriter().stop()


def test_a_file_is_closed_after_its_time_though_no_record_comes(tmp_path: Path) -> None:
    writer = RequestLogWriter(Rotation(max_seconds=0.01))
    writer.offer(str(tmp_path / "m"), b"one")
    while not writer.written or open_files(tmp_path):
        time.sleep(0.001)
    writer.offer(str(tmp_path / "m"), b"two")
    writer.stop()
    assert all_files(tmp_path) == [[b"one"], [b"two"]]


def test_an_offer_never_waits_and_is_refused_when_too_much_waits(
    tmp_path: Path, warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log_writer, "MAX_WAITING_RECORDS", 10)
    monkeypatch.setattr(request_log_writer, "MAX_WAITING_BYTES", 1000)
    monkeypatch.setattr(request_log_writer, "COLLECT_SECONDS", 1e6)
    writer = RequestLogWriter()
    prefix = str(tmp_path / "m")
    writer.offer(prefix, b"x" * 500)
    writer.offer(prefix, b"too large".ljust(501))
    assert writer.dropped == 1, "more than 1000 bytes"
    for _ in range(15):
        writer.offer(prefix, b"small")
    writer.stop()
    ((first, *rest),) = all_files(tmp_path)
    assert first == b"x" * 500
    assert rest == [b"small"] * len(rest)
    assert 9 <= len(rest) <= 10, "the thread may or may not have taken the first one"
    assert writer.dropped == 16 - len(rest)
    first_warning, last_warning = warnings()
    assert "faster than they can be written" in first_warning
    assert last_warning == (
        f"Request log: {writer.written} records written, {writer.dropped} left out as too many waited, 0 failed"
    )


def test_what_waits_at_a_stop_is_written_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log_writer, "COLLECT_SECONDS", 1e6)
    writer = RequestLogWriter()
    records = [b"%d" % number for number in range(2 * request_log_writer.MAX_BATCH + 1)]
    for record in records:
        writer.offer(str(tmp_path / "m"), record)
    writer.stop()
    assert all_files(tmp_path) == [records]
    assert writer.written == len(records)
