"""TFRecord files: records one after the other, each with checksums.

A record is its length (8 bytes), the checksum of these, its bytes, and their checksum; all little-endian. Checksums
are masked CRC32Cs, 4 bytes: a CRC of data that holds CRCs would be weak. Format and error texts are TensorFlow's
(``tsl/lib/io/record_reader.cc``).
"""

from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from pyserving.core.errors import Code, ServingError

_LENGTH_SIZE = 8
_CRC_SIZE = 4
_HEADER_SIZE = _LENGTH_SIZE + _CRC_SIZE
_MASK_DELTA = 0xA282EAD8
_CHUNK = 1 << 20


def frame_record(data: bytes) -> bytes:
    """``data`` as a record, ready to be appended to a file."""
    length = len(data).to_bytes(_LENGTH_SIZE, "little")
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def read_records(file: BinaryIO) -> Iterator[bytes]:
    """Yields the records from where ``file`` stands to its end, holding one at a time.

    Raises DATA_LOSS, with the position of the record, where one is cut off or does not fit its checksum, and OSError.
    """
    position = 0
    while header := _read(file, _HEADER_SIZE):
        if len(header) < _HEADER_SIZE:
            raise _truncated(position)
        if _masked_crc(header[:_LENGTH_SIZE]) != header[_LENGTH_SIZE:]:
            raise _data_loss(f"corrupted record at {position} (Is this even a TFRecord file?)")
        length = int.from_bytes(header[:_LENGTH_SIZE], "little")
        body = _read(file, length + _CRC_SIZE)
        if len(body) < length + _CRC_SIZE:
            raise _truncated(position)
        data = body[:length]
        if _masked_crc(data) != body[length:]:
            raise _data_loss(f"corrupted record at {position + _HEADER_SIZE}")
        yield data
        position += _HEADER_SIZE + length + _CRC_SIZE


def _read(file: BinaryIO, size: int) -> bytes:
    """Up to ``size`` bytes, fewer only at the end; memory is taken for what is there, whatever a length says."""
    data = file.read(min(size, _CHUNK))
    if len(data) < _CHUNK or len(data) == size:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := file.read(min(missing, _CHUNK))):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _masked_crc(data: bytes) -> bytes:
    crc: int = google_crc32c.value(data)
    masked = ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
    return masked.to_bytes(_CRC_SIZE, "little")


def _truncated(position: int) -> ServingError:
    return _data_loss(f"truncated record at {position}")


def _data_loss(message: str) -> ServingError:
    return ServingError(Code.DATA_LOSS, message)
