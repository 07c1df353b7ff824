"""What ``variables.index`` says of a SavedModel's variables: their names, dtypes and shapes. The values are not read.

The file is a table of sorted keys in blocks, in the format of LevelDB's tables (``table_format.md`` there; in
TensorFlow ``tsl/lib/io/table_builder.cc``): each key is stored without what it shares with the key before. A key is the
name of a tensor, its value a ``BundleEntryProto`` (``tensor_bundle.proto``); the empty key has the header.
"""

import os
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from google.protobuf.message import DecodeError

from pyserving.core.errors import invalid_argument
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.protos.messages import BundleEntryProto
from pyserving.sources.os_errors import serving_error

INDEX_FILE = os.path.join("variables", "variables.index")
_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER_SIZE = 48
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_SLICE = b"\0"
"""Keys of the parts of a partitioned variable begin with it; the variable as a whole has a key, too."""


class VariableFacts(NamedTuple):
    """One variable."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    size: int
    """In bytes."""


def read_variables(folder: str) -> list[VariableFacts]:
    """The variables of the SavedModel in ``folder``, by name; none where it has no such file.

    Raises INVALID_ARGUMENT for a damaged file, and what else the system says.
    """
    path = os.path.join(folder, INDEX_FILE)
    try:
        with open(path, "rb") as file:
            content = memoryview(file.read())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise serving_error(path, error) from None
    try:
        return [_facts(key, value) for key, value in _entries(content) if _is_variable(key)]
    except (IndexError, ValueError, DecodeError):
        raise invalid_argument(f"{path} is no index of variables, or not a whole one") from None


def _is_variable(key: bytes) -> bool:
    return key != b"" and not key.startswith(_SLICE) and key.decode() != _OBJECT_GRAPH


def _facts(key: bytes, value: bytes) -> VariableFacts:
    entry = BundleEntryProto.FromString(value)
    dtype, shape = DType(entry.dtype), tuple(dim.size for dim in entry.shape.dim)
    size = entry.size
    if not size and dtype in NUMPY_OF:  # of a partitioned one, the parts have the bytes
        size = prod(shape) * NUMPY_OF[dtype].itemsize
    return VariableFacts(key.decode(), dtype, shape, size)


def _entries(content: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """All keys and values. Raises IndexError or ValueError where the data are no such table."""
    if content[-len(_MAGIC) :] != _MAGIC:
        raise ValueError
    footer = content[-_FOOTER_SIZE:]
    _, position = _handle(footer, 0)  # of the block about blocks, which is empty
    index, _ = _handle(footer, position)
    for _, handle in _block(content, index):
        block, _ = _handle(memoryview(handle), 0)
        yield from _block(content, block)


def _handle(data: memoryview, position: int) -> tuple[tuple[int, int], int]:
    """Where a block is, and its size; and where the handle ends."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _block(content: memoryview, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    block = content[offset : offset + size]
    if len(block) < size or content[offset + size] != 0:  # TensorFlow compresses none
        raise ValueError
    num_restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 * (num_restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + bytes(block[position : position + unshared])
        position += unshared
        yield key, bytes(block[position : position + length])
        position += length


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
            raise ValueError
