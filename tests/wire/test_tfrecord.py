"""TFRecord files, against a checksum computed bit by bit and bytes that TensorFlow wrote."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.core.errors import Code, ServingError
from pyserving.wire.tfrecord import frame_record, read_records

RECORDS = st.lists(st.binary(max_size=300), max_size=6)

# What tf.io.TFRecordWriter makes of b"hello" and b"".
BY_TENSORFLOW = bytes.fromhex("0500000000000000eab2043e68656c6c6fbb1f1c19000000000000000029039807d8ea82a2")


def read(data: bytes) -> list[bytes]:
    return list(read_records(io.BytesIO(data)))


def whole_records_and_error(data: bytes) -> tuple[list[bytes], ServingError]:
    """What a reader gets of a broken file."""
    records: list[bytes] = []
    with pytest.raises(ServingError) as caught:
        records.extend(read_records(io.BytesIO(data)))
    assert caught.value.code is Code.DATA_LOSS
    return records, caught.value


def slow_masked_crc(data: bytes) -> bytes:
    """From the definition: the remainder by the reversed Castagnoli polynomial, rotated, and a constant added."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    rotated = (crc >> 15) | (crc << 17 & 0xFFFFFFFF)
    return ((rotated + 0xA282EAD8) % (1 << 32)).to_bytes(4, "little")


def test_files_are_byte_for_byte_those_of_tensorflow() -> None:
    assert frame_record(b"hello") + frame_record(b"") == BY_TENSORFLOW
    assert read(BY_TENSORFLOW) == [b"hello", b""]


@given(st.binary(max_size=400))
def test_a_record_carries_both_checksums(data: bytes) -> None:
    length = len(data).to_bytes(8, "little")
    assert frame_record(data) == length + slow_masked_crc(length) + data + slow_masked_crc(data)


@given(RECORDS)
def test_what_was_written_is_read(records: list[bytes]) -> None:
    assert read(b"".join(map(frame_record, records))) == records


@pytest.mark.parametrize("size", [(1 << 20) - 5, (1 << 20) - 4, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_large_records_are_read_in_pieces(size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    assert read(frame_record(data[:size]) + frame_record(b"next")) == [data[:size], b"next"]


@given(RECORDS.filter(bool), st.data())
def test_a_file_cut_off_anywhere_yields_its_whole_records_and_says_where_it_breaks(
    records: list[bytes], data: st.DataObject
) -> None:
    frames = [frame_record(record) for record in records]
    file = b"".join(frames)
    cut = data.draw(st.integers(0, len(file) - 1))
    ends = [sum(map(len, frames[: count + 1])) for count in range(len(frames))]
    whole = sum(end <= cut for end in ends)
    start = ends[whole - 1] if whole else 0
    if cut == start:
        assert read(file[:cut]) == records[:whole]
    else:
        read_before, error = whole_records_and_error(file[:cut])
        assert read_before == records[:whole]
        assert error.message == f"truncated record at {start}"


@given(RECORDS.filter(bool), st.data())
def test_a_flipped_bit_anywhere_is_noticed_in_its_record(records: list[bytes], data: st.DataObject) -> None:
    frames = [frame_record(record) for record in records]
    file = bytearray(b"".join(frames))
    at = data.draw(st.integers(0, len(file) - 1))
    file[at] ^= 1 << data.draw(st.integers(0, 7))
    broken, start = 0, 0
    while start + len(frames[broken]) <= at:
        start += len(frames[broken])
        broken += 1
    read_before, error = whole_records_and_error(bytes(file))
    assert read_before == records[:broken]
    header = at - start < 12
    assert error.message.startswith(f"corrupted record at {start if header else start + 12}")


@given(st.binary(min_size=1))
def test_bytes_of_another_kind_are_refused(data: bytes) -> None:
    whole_records_and_error(b"\x00" + data)


def test_a_huge_length_with_a_right_checksum_takes_no_memory() -> None:
    length = (1 << 62).to_bytes(8, "little")
    _, error = whole_records_and_error(length + slow_masked_crc(length) + b"abc")
    assert error.message == "truncated record at 0"
