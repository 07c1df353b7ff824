"""Gathers the pieces of a request body: plain, or gunzipped on the way, never more than the limit."""

import zlib
from typing import Protocol

from pyserving.transport.limits import HttpLimits
from pyserving.wire.byte_buffer import ByteBuffer


class BodyTooLarge(Exception):  # noqa: N818, it is a refusal, not an error of ours
    """The text says what was expected and what came."""


_AT_ONCE = 256 << 10
"""Bytes after decompression that are no burden to the event loop: a millisecond's work."""
_PIECE = 64 << 10
"""Bytes at a time, before and after decompression. zlib drops the GIL for each."""


class Body(Protocol):
    received: int
    """Bytes as they came, before decompression."""

    def add(self, piece: bytes) -> None:
        """Raises BodyTooLarge."""

    @property
    def deferred(self) -> bool:
        """Whether ``finish`` has work to do that takes time, so that it should be called on a thread."""
        ...

    def finish(self) -> bytes:
        """The body. Raises BodyTooLarge where ``deferred``."""


class PlainBody:
    """Bytes as they came."""

    deferred = False
    __slots__ = ("_buffer", "_limit", "received")

    def __init__(self, limits: HttpLimits, length: int = 0) -> None:
        """``length``: as announced, if it was."""
        self._buffer = ByteBuffer(length)
        self._limit = limits.max_body
        self.received = 0

    def add(self, piece: bytes) -> None:
        self.received += len(piece)
        if self.received > self._limit:
            raise BodyTooLarge(f"Expected a body of at most {self._limit} bytes, got more")
        self._buffer.write(piece)

    def finish(self) -> bytes:
        return self._buffer.take()


class GzipBody:
    """One gzip member. What does not decompress counts as an empty body, as in TensorFlow Serving: cut short, damaged,
    no gzip at all, or followed by more bytes.

    What decompresses to a little is decompressed as it comes in. Of more, the rest waits until all of it is there.
    """

    __slots__ = ("_broken", "_buffer", "_decompressor", "_limits", "_size", "_waiting", "received")

    def __init__(self, limits: HttpLimits) -> None:
        self._buffer = ByteBuffer()
        self._waiting = ByteBuffer()
        self._decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._limits = limits
        self._size = 0
        self._broken = False
        self.received = 0

    @property
    def deferred(self) -> bool:
        return len(self._waiting) > 0

    def add(self, piece: bytes) -> None:
        self.received += len(piece)
        if self.received > self._limits.max_body:
            raise BodyTooLarge(f"Expected a body of at most {self._limits.max_body} bytes, got more")
        if self._broken:
            return
        for at in range(0, len(piece), _PIECE):
            part = piece[at : at + _PIECE]
            if self._size >= _AT_ONCE:
                self._waiting.write(part)
            else:
                self._decompress(part)

    def _decompress(self, piece: bytes | memoryview) -> None:
        decompressor = self._decompressor
        more = True
        while more and not self._broken:
            try:
                plain = decompressor.decompress(piece, _PIECE)
            except zlib.error:
                self._broken = True
                break
            piece = decompressor.unconsumed_tail
            more = bool(piece) or len(plain) == _PIECE
            self._size += len(plain)
            self._check_size()
            self._broken = bool(decompressor.unused_data)
            self._buffer.write(plain)
        if self._broken:
            self._buffer = ByteBuffer()

    def _check_size(self) -> None:
        limits = self._limits
        if self._size > limits.max_body:
            raise BodyTooLarge(f"Expected at most {limits.max_body} bytes after decompression, got more")
        most = max(limits.gzip_ratio_from, limits.max_gzip_ratio * self.received)
        if self._size > most:
            raise BodyTooLarge(
                f"Expected a gzip body that grows at most {limits.max_gzip_ratio} times, got {self.received} bytes "
                f"that decompress to more than {most}"
            )

    def finish(self) -> bytes:
        rest = memoryview(self._waiting.take())
        for at in range(0, len(rest), _PIECE):
            if self._broken:
                break
            self._decompress(rest[at : at + _PIECE])
        return self._buffer.take() if self._decompressor.eof and not self._broken else b""
