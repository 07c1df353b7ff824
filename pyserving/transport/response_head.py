"""Status lines and headers of HTTP/1.1 answers, made once per second and kind."""

import http
import time
from collections.abc import Sequence
from email.utils import formatdate

_PHRASES = {status.value: status.phrase for status in http.HTTPStatus} | {499: "Client Closed Request"}


NO_CONTENT = 204
"""Has no body and must not tell the length of one (RFC 9110, 8.6)."""


class ResponseHeads:
    """Shared by all connections of a server. Answers differ in little but their length, so the bytes up to the length
    are kept for the second in which their Date is right."""

    __slots__ = ("_blocks", "_second")

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, str], bytes] = {}
        self._second = 0

    def head(
        self,
        status: int,
        content_type: str,
        length: int | None,
        headers: Sequence[tuple[str, str]],
        connection: bytes,
    ) -> bytes:
        """All up to and with the empty line. ``length``: None where that is not to be told. ``connection`` is whole
        header lines or nothing.

        Raises ValueError for a header that is no header (line breaks, characters beyond Latin-1).
        """
        second = int(time.time())
        if second != self._second:
            self._blocks.clear()
            self._second = second
        block = self._blocks.get((status, content_type))
        if block is None:
            block = self._blocks[(status, content_type)] = self._block(status, content_type)
        extra = connection
        for name, value in headers:
            extra += _field(name, value)
        if status == NO_CONTENT or length is None:
            return b"%b%b\r\n" % (block, extra)
        return b"%b%bContent-Length: %d\r\n\r\n" % (block, extra, length)

    def _block(self, status: int, content_type: str) -> bytes:
        phrase = _PHRASES.get(status, "Unknown").encode()
        date = formatdate(self._second, usegmt=True).encode()
        kind = _field("Content-Type", content_type) if content_type else b""
        return b"HTTP/1.1 %d %b\r\nDate: %b\r\n%b" % (status, phrase, date, kind)


def _field(name: str, value: str) -> bytes:
    line = f"{name}: {value}"
    if "\r" in line or "\n" in line:
        raise ValueError(f"Expected a header of one line, got {line!r}")
    return line.encode("latin-1") + b"\r\n"
