"""The fields of a serialized message that have a length: as far as looking into ONNX files needs it."""

from collections.abc import Iterator


def fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers and contents of the fields that have a length. Raises IndexError where the data end within a field."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        match key & 7:
            case 0:
                _, position = _varint(data, position)
            case 1:
                position += 8
            case 2:
                length, position = _varint(data, position)
                if position + length > len(data):
                    raise IndexError
                yield key >> 3, data[position : position + length]
                position += length
            case 5:
                position += 4
            case _:
                raise IndexError
    if position > len(data):
        raise IndexError


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise IndexError
