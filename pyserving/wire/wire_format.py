"""Protobuf's wire format, to find where in a serialized message its fields lie (protobuf.dev, "Encoding")."""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, int, int]
"""Number, wire type, and where the value begins and ends; that of ``BYTES`` without its length."""


def fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in ``data[start:end]``, in their order.

    Raises ValueError for anything that is no field, groups included.
    """
    while start < end:
        tag, start = _varint(data, start, end)
        number, kind = tag >> 3, tag & 7
        begin, stop = start, start
        if kind == VARINT:
            _, stop = _varint(data, start, end)
        elif kind == BYTES:
            size, begin = _varint(data, start, end)
            stop = begin + size
        elif kind == FIXED32:
            stop = start + 4
        elif kind == FIXED64:
            stop = start + 8
        else:
            raise ValueError(f"a field of wire type {kind}")
        if stop > end:
            raise ValueError("a field is cut off")
        yield number, kind, begin, stop
        start = stop


def _varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if start >= end:
            break
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError("a varint is cut off or too long")
