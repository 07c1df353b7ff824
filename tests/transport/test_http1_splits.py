"""However the bytes are cut into pieces, the same requests are read and the same answers written."""

import asyncio
import gzip
import itertools
import logging
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyserving.api.exchange import HttpRequest, HttpResponse
from pyserving.transport.http1 import Http1Server
from pyserving.transport.listener import Connections

ZIPPED = gzip.compress(b'{"instances": [1.0, 2.0]}' * 20)
REQUESTS = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\r\nGET /v1/models/m?x=%20y HTTP/1.1\r\nHost: a\r\nAccept: b\r\naccept: c\r\nEmpty:\r\n\r\n",
    b"HEAD /h HTTP/1.1\r\n\r\n",
    b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /p HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /none HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0a\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
    b"POST /z HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(ZIPPED) + ZIPPED,
    b"POST /broken HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n123456789",
    b"POST /u HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /big HTTP/1.1\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40000,
]


class Written(asyncio.Transport):
    """Takes all that is written."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.bytes += data

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def resume_reading(self) -> None: ...

    def pause_reading(self) -> None: ...


def serve(pieces: list[bytes], *, waits: bool, turns: int = 100) -> tuple[list[Any], bytes, bool]:
    """The requests the handler saw, the bytes written, and whether the connection was closed."""
    seen: list[Any] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        seen.append((request.method, request.target, dict(request.headers), request.body))
        if waits:
            await asyncio.sleep(0)
        return HttpResponse(200, request.target.encode(), "text/plain")

    async def run() -> Written:
        transport = Written()
        connection = Http1Server(handler).new_connection(Connections())
        connection.connection_made(transport)
        for piece in pieces:
            connection.data_received(piece)
        for _ in range(turns):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        return transport

    transport = asyncio.run(run())
    written = transport.bytes.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return seen, re.sub(rb"Date: [^\r]*", b"Date:", written), transport.closed


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(
    requests=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=8),
    places=st.lists(st.integers(0, 1 << 20), max_size=40),
    waits=st.booleans(),
)
def test_any_cut_reads_the_same_requests(requests, places, waits):
    one_by_one = [serve([request], waits=False) for request in requests]
    data = b"".join(requests)
    seen, written, closed = serve(cut(data, places), waits=waits)
    assert seen == [request for alone, _, _ in one_by_one for request in alone]
    assert written == b"".join(answer for _, answer, _ in one_by_one)
    assert not closed


def test_byte_by_byte_reads_the_same_requests():
    small = REQUESTS[:-1]
    data = b"".join(small)
    assert serve([data[at : at + 1] for at in range(len(data))], waits=False) == serve([data], waits=False)


@given(
    requests=st.lists(st.sampled_from(REQUESTS[:-1]), min_size=1, max_size=3),
    places=st.lists(st.integers(0, 1 << 20), max_size=5),
    damage=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=3)), min_size=1, max_size=4),
)
def test_damaged_requests_never_end_in_an_error_of_ours(requests, places, damage):
    data = bytearray(b"".join(requests))
    for place, junk in damage:
        at = place % len(data)
        data[at : at + len(junk)] = junk
    records: list[logging.LogRecord] = []
    watch = logging.Handler(logging.ERROR)
    watch.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("pyserving.transport")
    logger.addHandler(watch)
    try:
        _, written, closed = serve(cut(bytes(data), places), waits=False)
    finally:
        logger.removeHandler(watch)
    assert records == []
    assert b"HTTP/1.1 500" not in written
    assert closed == (b"Connection: close\r\n" in written)


def test_keeps_what_comes_while_too_many_requests_wait():
    """Also from an event loop that delivers something more after reading was paused."""
    first = b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(2000))
    seen, written, closed = serve([first, b"GET /more HTTP/1.1\r\n\r\n"], waits=True, turns=5000)
    assert [target for _, target, _, _ in seen] == [*(f"/{number}" for number in range(2000)), "/more"]
    assert written.count(b"HTTP/1.1 200 OK") == 2001
    assert not closed
