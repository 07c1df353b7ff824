"""Answers whose body comes piece by piece."""

import asyncio
import threading
from collections.abc import AsyncGenerator

from pyserving.api.exchange import HttpRequest, HttpResponse, StreamedResponse

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


def counting(pieces: list[bytes]):
    async def handler(request: HttpRequest) -> HttpResponse:
        if request.target != "/stream":
            return HttpResponse(200, request.target.encode(), "text/plain")

        async def body() -> AsyncGenerator[bytes, None]:
            for piece in pieces:
                await asyncio.sleep(0)
                yield piece

        return StreamedResponse(body(), "text/plain")

    return handler


def read_stream(client) -> tuple[list[bytes], list[bytes]]:
    """Header lines and chunks."""
    headers = list(iter(client.line, b"\r\n"))
    chunks = []
    while size := int(client.line(), 16):
        chunks.append(client.exactly(size))
        assert client.line() == b"\r\n"
    assert client.line() == b"\r\n"
    return headers, chunks


def test_sends_pieces_as_chunks_and_keeps_the_connection_and_the_order(serve_http1):
    client = serve_http1(counting([b"one", b"", b"two"])).connect()
    client.send(GET % b"/before" + GET % b"/stream" + GET % b"/after")
    assert client.answer().body == b"/before"
    headers, chunks = read_stream(client)
    assert b"Transfer-Encoding: chunked\r\n" in headers
    assert not any(header.lower().startswith(b"content-length") for header in headers)
    assert chunks == [b"one", b"two"]
    assert client.answer().body == b"/after"


def test_ends_the_body_with_the_connection_for_http_1_0(serve_http1):
    client = serve_http1(counting([b"one", b"two"])).connect()
    client.send(b"GET /stream HTTP/1.0\r\n\r\n")
    head, _, body = client.rest().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"Connection: close" in head
    assert body == b"onetwo"


def test_waits_for_a_client_that_reads_slowly_and_stops_for_one_that_goes(serve_http1):
    made = 0
    closed = threading.Event()

    async def handler(_: HttpRequest) -> HttpResponse:
        async def body() -> AsyncGenerator[bytes, None]:
            nonlocal made
            try:
                while True:
                    made += 1
                    yield b"x" * 65536
            finally:
                closed.set()

        return StreamedResponse(body(), "text/plain")

    server = serve_http1(handler)
    client = server.connect()
    client.send(GET % b"/")
    client.line()
    # An endless body would not let the loop go if it did not wait: the server still answers others.
    other = server.connect()
    other.send(GET % b"/")
    other.line()
    assert made < 10_000
    client.close()
    assert closed.wait(10)


def test_a_stream_that_breaks_off_has_no_last_chunk(serve_http1, caplog):
    async def handler(_: HttpRequest) -> HttpResponse:
        async def body() -> AsyncGenerator[bytes, None]:
            yield b"one"
            raise RuntimeError("no more")

        return StreamedResponse(body(), "text/plain")

    client = serve_http1(handler).connect()
    client.send(GET % b"/")
    assert client.rest().endswith(b"3\r\none\r\n")
    assert "no more" in caplog.text
