"""Config files in text format."""

from pathlib import Path

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.protos import messages
from pyserving.sources.text_proto import read_text_proto


def read(path: Path, text: str | bytes) -> messages.BatchingParameters:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_text_proto(str(path), messages.BatchingParameters)


@pytest.mark.parametrize(
    "text",
    [
        'max_batch_size { value: 4 } thread_pool_name { value: "é" }',
        'max_batch_size: { value: 4 },\nthread_pool_name: < value: "é" >;  # a comment',
        b'\xef\xbb\xbfmax_batch_size { value: 4 }\r\nthread_pool_name { value: "\\303\\251" }\r\n',
    ],
)
def test_text_format(tmp_path: Path, text: str | bytes) -> None:
    parameters = read(tmp_path / "b", text)
    assert parameters.max_batch_size.value == 4
    assert parameters.thread_pool_name.value == "é"


@pytest.mark.parametrize(
    "text",
    ["max_batch_size: 4", "nope: 1", "max_batch_size {", "max_batch_size { value: 1 value: 2 }", b"\xff", "}", "\0"],
)
def test_what_is_no_such_message(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "b"
    with pytest.raises(ServingError) as raised:
        read(path, text)
    assert str(raised.value) == f"INVALID_ARGUMENT: Invalid protobuf file: '{path}'"


def test_line_and_column_of_the_fault_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ServingError):
        read(tmp_path / "b", "\nmax_batch_size { nope: 1 }")
    assert "2:18" in caplog.text


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, code, reason in [
        (tmp_path / "missing", Code.NOT_FOUND, "No such file or directory"),
        (tmp_path, Code.FAILED_PRECONDITION, "Is a directory"),
        (tmp_path / "empty", Code.INVALID_ARGUMENT, "Invalid argument"),
    ]:
        (tmp_path / "empty").touch()
        with pytest.raises(ServingError) as raised:
            read_text_proto(str(path), messages.BatchingParameters)
        assert raised.value.code is code
        assert raised.value.message == f"{path}; {reason}"
