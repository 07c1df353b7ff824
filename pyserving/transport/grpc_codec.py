"""gRPC's encodings: messages in a stream of bytes, their compression, timeouts, and texts in headers."""

import zlib
from collections.abc import Callable, Mapping

from pyserving.core.errors import Code, ServingError
from pyserving.wire.byte_buffer import ByteBuffer

MAX_GRPC_MESSAGE = 7 * 1024
"""Bytes of grpc-message as encoded. grpcio's clients begin to refuse headers at 8 KiB in all."""
MAX_LENGTH = 0xFFFFFFFF
"""Bytes of one message: its length is sent as 32 bits."""
PREFIX = 5
"""Bytes before each message: whether it is compressed, and its length."""
ENCODINGS = b"identity,deflate,gzip"
WINDOW_BITS: Mapping[bytes, int | None] = {b"identity": None, b"deflate": 15, b"gzip": 31}
"""zlib's wbits by grpc-encoding; None: not compressed."""

_LARGE = 64 * 1024
"""Messages beyond are gathered in memory that is then handed on, not copied."""
_CUT = b"..."
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PERCENT = [bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in range(256)]


class MessageBuffer:
    """Keeps the bytes of a stream, in whatever pieces they come, and cuts them into messages when asked.

    ``admit(length)`` is called once for each message, as soon as its length is looked at; it may raise ServingError.
    """

    __slots__ = ("_admit", "_buffer", "_compressed", "_large", "_missing")

    def __init__(self, admit: Callable[[int], None]) -> None:
        self._admit = admit
        self._buffer = bytearray()  # one, as objects for tiny pieces would take a multiple of their bytes
        self._compressed = False
        self._missing = -1  # -1: still in the prefix
        self._large: ByteBuffer | None = None  # the message's bytes up to now, while one of some size comes in

    def __len__(self) -> int:
        """Bytes of messages that were not taken; of one whose length is known, without the prefix."""
        return len(self._buffer) + (len(self._large) if self._large is not None else 0)

    @property
    def inside(self) -> bool:
        """Whether a message was begun and not ended."""
        return self._missing >= 0 or bool(self._buffer)

    def add(self, data: bytes) -> None:
        if self._large is None:
            self._buffer += data
        elif len(data) <= (room := self._missing - len(self._large)):
            self._large.write(data)
        else:
            self._large.write(memoryview(data)[:room])
            self._buffer += memoryview(data)[room:]

    def take(self) -> tuple[bytes, bool] | None:
        """The next message and whether it is compressed; None if it is not complete. Raises ServingError."""
        buffer = self._buffer
        if self._missing < 0:
            if len(buffer) < PREFIX:
                return None
            if buffer[0] > 1:
                raise ServingError(Code.INTERNAL, f"Expected message flag 0 or 1, got {buffer[0]}")
            self._compressed = buffer[0] == 1
            length = int.from_bytes(buffer[1:PREFIX], "big")
            self._admit(length)
            del buffer[:PREFIX]
            self._missing = length
            if length > _LARGE and len(buffer) < length:
                self._large = ByteBuffer(length)
                self._large.write(bytes(buffer))
                buffer.clear()
        size = self._missing
        if self._large is not None:
            if len(self._large) < size:
                return None
            message = self._large.take()
            self._large = None
        else:
            if len(buffer) < size:
                return None
            with memoryview(buffer) as view:
                message = bytes(view[:size])
            del buffer[:size]
        self._missing = -1
        return message, self._compressed


def parse_timeout(value: bytes) -> float:
    """Seconds of a grpc-timeout: one to eight digits and a unit. Raises ServingError (INTERNAL)."""
    seconds = _SECONDS.get(value[-1:])
    digits = value[:-1]
    if seconds is None or len(digits) > 8 or not digits.isdigit():
        raise ServingError(Code.INTERNAL, f"Expected a grpc-timeout like 100m, got {as_text(value)!r}")
    return int(digits) * seconds


def encode_message(text: str) -> bytes:
    """The value of grpc-message: UTF-8, all but printable ASCII percent-encoded; a text too long for clients is cut."""
    encoded = _percent_encode(text)
    if len(encoded) <= MAX_GRPC_MESSAGE:
        return encoded
    pieces = []
    room = MAX_GRPC_MESSAGE - len(_CUT)
    for character in text:
        piece = _percent_encode(character)
        room -= len(piece)
        if room < 0:
            break
        pieces.append(piece)
    return b"".join(pieces) + _CUT


def decompress(data: bytes, window_bits: int, limit: int) -> bytes:
    """Decompresses a whole gzip or zlib stream, to at most ``limit`` bytes. Raises ServingError."""
    inflate = zlib.decompressobj(window_bits)
    try:
        message = inflate.decompress(data, limit + 1)
    except zlib.error as error:
        raise ServingError(Code.INTERNAL, f"The message cannot be decompressed: {error}") from error
    if len(message) > limit:
        raise ServingError(
            Code.RESOURCE_EXHAUSTED, f"Received message larger than max (more than {limit} decompressed vs. {limit})"
        )
    if not inflate.eof or inflate.unused_data:
        raise ServingError(Code.INTERNAL, "The message cannot be decompressed: it is cut off or has bytes too many")
    return message


def compress(data: bytes, window_bits: int) -> bytes:
    """The lightest compression: the network is seldom so slow that more of it pays."""
    return zlib.compress(data, 1, window_bits)


def as_text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _percent_encode(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if raw.isascii() and text.isprintable() and b"%" not in raw:
        return raw
    return b"".join(_PERCENT[byte] for byte in raw)
