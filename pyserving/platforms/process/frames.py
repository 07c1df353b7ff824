"""Messages between the server and the process of a model: a JSON header and tensors as they lie in memory.

There is no pickle: what comes from the other side is read as numbers, names and bytes, and nothing else.
A frame is two sizes (header: 4 bytes, body: 8 bytes, little-endian), the header, the body. The header lists the
tensors; in the body each begins at a multiple of 64 bytes. A tensor of strings is their lengths (8 bytes each),
then all strings.

They go over a socket pair. Shared memory was measured to be slower: 600 kB take 0.07 ms over the socket, and 0.5 ms by
a fresh memfd, whose pages the system has to find and clear; to use memory again, it would have to be known that model
code keeps no array of a request.
"""

import itertools
import math
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.platforms.model import Array

_SIZES = struct.Struct("<IQ")
_ALIGNMENT = 64
_MAX_BUFFERS = 512
"""In one call; systems take 1,024."""

Buffer = bytes | memoryview


class Message(NamedTuple):
    """What is said: ``kind``, what it belongs to (0: nothing), more of JSON's values, and tensors by name."""

    kind: str
    id: int
    fields: Mapping[str, Any] = {}
    tensors: Mapping[str, Array] = {}


def encode(message: Message) -> list[Buffer]:
    """The frame, in pieces: tensors are not copied. Raises ValueError for an array whose dtype no tensor has."""
    described: list[Any] = []
    body: list[Buffer] = []
    size = 0
    for name, array in message.tensors.items():
        dtype = DTYPE_OF.get(array.dtype)
        if dtype is None:
            raise ValueError(f"{name} is an array of {array.dtype}, which no tensor can be of")
        data = _string_data(array) if dtype is DType.STRING else [_data(array)]
        if padding := -size % _ALIGNMENT:
            body.append(bytes(padding))
        length = sum(map(len, data))
        described.append([name, int(dtype), array.shape, size + padding, length])
        body += data
        size += padding + length
    header = orjson.dumps([message.kind, message.id, message.fields, described])
    return [_SIZES.pack(len(header), size) + header, *body]


def decode(header: bytes, body: Array) -> Message:
    """The message of a header and a body, an array of bytes of which the tensors are views."""
    kind, number, fields, described = orjson.loads(header)
    tensors = {}
    for name, dtype, shape, start, length in described:
        data = body[start : start + length]
        tensors[name] = (
            _strings(data, shape) if dtype == DType.STRING else data.view(NUMPY_OF[DType(dtype)]).reshape(shape)
        )
    return Message(kind, number, fields, tensors)


def send(connection: socket.socket, buffers: Sequence[Buffer]) -> None:
    """Writes a frame. Raises OSError."""
    waiting = [memoryview(buffer) for buffer in buffers if len(buffer)]
    while waiting:
        sent = connection.sendmsg(waiting[:_MAX_BUFFERS])
        while waiting and sent >= len(waiting[0]):
            sent -= len(waiting.pop(0))
        if sent:
            waiting[0] = waiting[0][sent:]


def receive(connection: socket.socket) -> Message | None:
    """Waits for the next message; None once the other side is gone. Raises OSError."""
    sizes = bytearray(_SIZES.size)
    if not _fill(connection, memoryview(sizes)):
        return None
    header_size, body_size = _SIZES.unpack(sizes)
    header = bytearray(header_size)
    body = np.empty(body_size, np.uint8)
    if not _fill(connection, memoryview(header)) or not _fill(connection, body.data):
        return None
    return decode(bytes(header), body)


def _fill(connection: socket.socket, room: memoryview) -> bool:
    while len(room):
        received = connection.recv_into(room)
        if not received:
            return False
        room = room[received:]
    return True


def _data(array: Array) -> memoryview:
    contiguous = np.ascontiguousarray(array)
    return contiguous.reshape(-1).view(np.uint8).data if contiguous.size else memoryview(b"")


def _string_data(array: Array) -> list[Buffer]:
    texts: list[bytes] = array.ravel().tolist()
    return [np.array([len(text) for text in texts], np.uint64).tobytes(), b"".join(texts)]


def _strings(data: Array, shape: Sequence[int]) -> Array:
    count = math.prod(shape)
    ends = [0, *itertools.accumulate(data[: 8 * count].view(np.uint64).tolist())]
    blob = data[8 * count :].tobytes()
    strings = np.empty(count, object)
    for position, (start, end) in enumerate(itertools.pairwise(ends)):
        strings[position] = blob[start:end]
    return strings.reshape(shape)
