"""Gathers the pieces of a request body: plain, or gunzipped on the way, never more than the limit."""

import io
import zlib
from typing import Protocol

from pyserving.transport.limits import HttpLimits


class BodyTooLarge(Exception):  # noqa: N818, it is a refusal, not an error of ours
    """The text says what was expected and what came."""


class Body(Protocol):
    received: int
    """Bytes as they came, before decompression."""

    def add(self, piece: bytes) -> None:
        """Raises BodyTooLarge."""

    def finish(self) -> bytes: ...


class PlainBody:
    """Bytes as they came. BytesIO grows by an eighth at a time and gives its buffer away without a copy, so that small
    pieces cost neither quadratic time nor an object each."""

    __slots__ = ("_buffer", "_limit", "received")

    def __init__(self, limits: HttpLimits) -> None:
        self._buffer = io.BytesIO()
        self._limit = limits.max_body
        self.received = 0

    def add(self, piece: bytes) -> None:
        self.received += len(piece)
        if self.received > self._limit:
            raise BodyTooLarge(f"Expected a body of at most {self._limit} bytes, got more")
        self._buffer.write(piece)

    def finish(self) -> bytes:
        return self._buffer.getvalue()


class GzipBody:
    """One gzip member, decompressed as it comes in. What does not decompress counts as an empty body, as in TensorFlow
    Serving: cut short, damaged, no gzip at all, or followed by more bytes."""

    __slots__ = ("_broken", "_buffer", "_decompressor", "_limits", "_size", "received")

    def __init__(self, limits: HttpLimits) -> None:
        self._buffer = io.BytesIO()
        self._decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._limits = limits
        self._size = 0
        self._broken = False
        self.received = 0

    def add(self, piece: bytes) -> None:
        limits = self._limits
        self.received += len(piece)
        if self.received > limits.max_body:
            raise BodyTooLarge(f"Expected a body of at most {limits.max_body} bytes, got more")
        if self._broken:
            return
        by_ratio = max(limits.gzip_ratio_from, limits.max_gzip_ratio * self.received)
        room = min(limits.max_body, by_ratio) - self._size
        try:
            plain = self._decompressor.decompress(piece, room + 1)
        except zlib.error:
            plain = b""
            self._broken = True
        if len(plain) > room:
            if by_ratio < limits.max_body:
                raise BodyTooLarge(
                    f"Expected a gzip body that grows at most {limits.max_gzip_ratio} times, got {self.received} bytes "
                    f"that decompress to more than {by_ratio}"
                )
            raise BodyTooLarge(f"Expected at most {limits.max_body} bytes after decompression, got more")
        if self._broken or self._decompressor.unused_data:
            self._broken = True
            self._buffer = io.BytesIO()
            return
        self._size += len(plain)
        self._buffer.write(plain)

    def finish(self) -> bytes:
        return self._buffer.getvalue() if self._decompressor.eof and not self._broken else b""
