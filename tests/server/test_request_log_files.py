"""The files of a request log and the thread that writes them: rotation, a full disk, too much to write."""

import logging
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import pytest

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
    logging.getLogger("pyserving").propagate = True
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_names_tell_prefix_time_process_and_number(tmp_path: Path) -> None:
    files = RequestLogFiles(str(tmp_path / "new" / "folder" / "m"), Rotation(max_seconds=3600))
    assert files.append(b"one")
    files.close()
    (path,) = (tmp_path / "new" / "folder").iterdir()
    prefix, begun, process, number = path.name.removesuffix(".tfrecord").split("-")
    assert (prefix, process, number) == ("m", str(os.getpid()), "0000")
    assert len(begun) == len("20250101T000000Z")
    assert begun.endswith("Z")


def test_a_record_is_in_the_file_as_soon_as_it_was_written(tmp_path: Path) -> None:
    files = RequestLogFiles(str(tmp_path / "m"), Rotation())
    for number in range(3):
        assert files.append(b"%d" % number)
        assert all_files(tmp_path) == [[b"0", b"1", b"2"][: number + 1]]
    files.close()


def test_a_file_that_would_grow_too_large_is_followed_by_another(tmp_path: Path) -> None:
    files = RequestLogFiles(str(tmp_path / "m"), Rotation(max_bytes=2 * (HEAD_AND_TAIL + 10)))
    records = [bytes([number]) * 10 for number in range(5)] + [b"x" * 1000, b"last"]
    for record in records:
        assert files.append(record)
    files.close()
    by_file = all_files(tmp_path)
    assert by_file == [records[:2], records[2:4], records[4:5], [records[5]], [records[6]]]


def test_nothing_is_ever_written_over(tmp_path: Path) -> None:
    for _ in range(3):
        files = RequestLogFiles(str(tmp_path / "m"), Rotation())
        assert files.append(b"mine")
        files.close()
    assert all_files(tmp_path) == [[b"mine"]] * 3


def test_a_full_disk_loses_records_but_spoils_none(
    tmp_path: Path, warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log_files, "RETRY_SECONDS", 0.0)
    files = RequestLogFiles(str(tmp_path / "m"), Rotation())
    with no_file_larger_than(170):
        written = [files.append(bytes([number]) * 50) for number in range(4)]
        refused = [files.append(b"y" * 500) for _ in range(5)]
    assert written == [True, True, False, True], "a new file is begun after a failure"
    assert refused == [False] * 5
    assert files.append(b"after")
    files.close()
    assert all_files(tmp_path) == [[b"\0" * 50, b"\1" * 50], [b"\3" * 50], [b"after"]], "no empty files are left"
    assert len(warnings()) == 2, "one for each time that it begins"
    assert all("cannot be written, serving goes on" in text for text in warnings())


def test_after_a_failure_nothing_is_tried_for_a_while(tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
    (tmp_path / "file").touch()
    files = RequestLogFiles(str(tmp_path / "file" / "m"), Rotation())
    assert not files.append(b"one")
    (tmp_path / "file").unlink()
    assert not files.append(b"two"), "though it could be written now"
    assert len(warnings()) == 1


def test_the_writer_writes_what_was_offered_until_it_stops(tmp_path: Path) -> None:
    writer = RequestLogWriter()
    for number in range(100):
        writer.offer(str(tmp_path / f"m{number % 2}"), 1, lambda number=number: b"%d" % number)
    writer.stop()
    even, odd = all_files(tmp_path)
    assert even == [b"%d" % number for number in range(0, 100, 2)]
    assert odd == [b"%d" % number for number in range(1, 100, 2)]
    assert (writer.written, writer.dropped, writer.failed) == (100, 0, 0)


def test_a_writer_without_work_has_no_thread_and_stops() -> None:
    RequestLogWriter().stop()


def test_a_file_is_closed_after_its_time_though_no_record_comes(tmp_path: Path) -> None:
    writer = RequestLogWriter(Rotation(max_seconds=0.01))
    writer.offer(str(tmp_path / "m"), 1, lambda: b"one")
    while not writer.written or open_files(tmp_path):
        time.sleep(0.001)
    writer.offer(str(tmp_path / "m"), 1, lambda: b"two")
    writer.stop()
    assert all_files(tmp_path) == [[b"one"], [b"two"]]


def test_an_offer_never_waits_and_is_refused_when_too_much_waits(
    tmp_path: Path, warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log_writer, "MAX_WAITING_RECORDS", 10)
    monkeypatch.setattr(request_log_writer, "MAX_WAITING_BYTES", 1000)
    disk_answers, begun = Event(), Event()

    def slow() -> bytes:
        begun.set()
        disk_answers.wait()
        return b"slow"

    writer = RequestLogWriter()
    prefix = str(tmp_path / "m")
    writer.offer(prefix, 500, slow)
    begun.wait()
    writer.offer(prefix, 501, lambda: b"too large")
    assert writer.dropped == 1, "with the one that is being written, more than 1000 bytes"
    for _ in range(15):
        writer.offer(prefix, 1, lambda: b"small")
    assert writer.dropped == 1 + 5, "more than 10 records"
    assert len(warnings()) == 1
    disk_answers.set()
    writer.stop()
    assert all_files(tmp_path) == [[b"slow"] + [b"small"] * 10]
    assert warnings()[-1] == "Request log: 11 records written, 6 left out as too many waited, 0 failed"


def test_a_record_that_cannot_be_made_is_told_and_the_next_one_written(tmp_path: Path) -> None:
    writer = RequestLogWriter()
    prefix = str(tmp_path / "m")
    writer.offer(prefix, 1, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    writer.offer(prefix, 1, lambda: b"good")
    writer.stop()
    assert all_files(tmp_path) == [[b"good"]]
    assert (writer.written, writer.failed) == (1, 1)
