"""What is refused: malformed, ambiguous, too large, too slow. Always with JSON, and then the connection ends."""

import gzip
import time

import pytest
from http1_running import echo, running

from pyserving.api.exchange import HttpRequest, HttpResponse
from pyserving.transport.limits import HttpLimits

CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def refused(server, data: bytes, status: int) -> str:
    """Also when it comes right behind a good request, and when it comes a byte at a time."""
    client = server.connect()
    client.send(b"GET /good HTTP/1.1\r\n\r\n" + data)
    assert client.answer().asked["target"] == "/good"
    behind = client.answer()
    assert client.rest() == b""
    client = server.connect()
    answer = client.ask(data)
    assert client.rest() == b""
    assert answer.headers["connection"] == "close"
    assert (answer.status, behind.status) == (status, status)
    assert behind.error
    return answer.error


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"GET / FTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /a\0b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET / HTTP/1.1\r\nspace : before colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: folded\r\n over lines\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: bare\rCR\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: bare\nLF: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: a\0NUL\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: " + b"0" * 5000 + b"3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
        CHUNKED + b"3\nabc\n0\n\n",
        CHUNKED + b"fffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_refuses_the_malformed_and_the_ambiguous(serve_http1, data):
    refused(serve_http1(), data, 400)


@pytest.mark.parametrize("method", ["TRACE", "post", "BREW", "CONNECT", "PROPFIND", "GETT", "x" * 100])
def test_answers_501_to_methods_that_are_none_of_rest(serve_http1, method):
    error = refused(serve_http1(), f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode(), 501)
    assert "POST" in error


@pytest.mark.parametrize("encoding", ["gzip, chunked", "identity, chunked"])
def test_answers_501_to_transfer_encodings_it_does_not_know(serve_http1, encoding):
    head = f"POST / HTTP/1.1\r\nTransfer-Encoding: {encoding}\r\n\r\n".encode()
    assert encoding in refused(serve_http1(), head + b"0\r\n\r\n", 501)


@pytest.mark.parametrize("request_line", [b"GET / HTTP/2.0", b"GET /"])
def test_answers_505_to_other_versions(serve_http1, request_line):
    refused(serve_http1(), request_line + b"\r\n\r\n", 505)


def test_refuses_a_million_bytes_without_a_line_end(serve_http1):
    for data in (b"GET /" + b"a" * 1_000_000, b"GET / HTTP/1.1\r\nA: " + b"a" * 1_000_000):
        assert "65536 bytes" in refused(serve_http1(), data, 431)


def test_refuses_a_head_just_too_large_and_takes_one_just_small_enough(serve_http1):
    server = serve_http1(limits=HttpLimits(max_head=1000))
    assert server.ask(b"GET / HTTP/1.1\r\nA: " + b"a" * 950 + b"\r\n\r\n").status == 200
    assert server.ask(b"GET /" + b"a" * 950 + b" HTTP/1.1\r\n\r\n").status == 200
    for data in (
        b"GET / HTTP/1.1\r\nA: " + b"a" * 1000 + b"\r\n\r\n",
        b"GET /" + b"a" * 1000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: aaaa\r\n" * 250,
    ):
        assert "1000 bytes" in refused(server, data, 431)


def test_refuses_an_unfinished_head_as_soon_as_it_is_too_large(serve_http1):
    client = serve_http1(limits=HttpLimits(max_head=1000)).connect()
    assert client.ask(b"GET / HTTP/1.1\r\nA: " + b"a" * 2000).status == 431


def test_refuses_too_many_headers(serve_http1):
    server = serve_http1(limits=HttpLimits(max_headers=10))
    assert server.ask(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10 + b"\r\n").status == 200
    assert "10 lines" in refused(server, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 11 + b"\r\n", 431)


def test_refuses_trailers_and_chunk_extensions_without_end(serve_http1):
    server = serve_http1(limits=HttpLimits(max_head=20_000))
    for data in (
        CHUNKED + b"1\r\na\r\n0\r\nA: " + b"a" * 100_000,
        CHUNKED + b"1\r\na\r\n0\r\n" + b"A: aaaa\r\n" * 10_000,
        CHUNKED + b"1;x=" + b"a" * 100_000,
    ):
        refused(server, data, 431)


def test_refuses_a_body_when_too_much_is_announced(serve_http1):
    """Before anything of it came, and instead of 100 Continue."""
    server = serve_http1()
    gigabyte = b"POST / HTTP/1.1\r\nContent-Length: 1073741824\r\n"
    error = refused(server, gigabyte + b"\r\n", 413)
    assert "536870912" in error
    assert "1073741824" in error
    refused(server, gigabyte + b"Expect: 100-continue\r\n\r\n", 413)
    # While a body that may come makes it wait, with nothing allocated for what was only announced.
    client = server.connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 536870912\r\nExpect: 100-continue\r\n\r\n")
    assert client.answer().status == 100


def test_the_client_that_goes_on_sending_still_reads_why_it_was_refused(serve_http1):
    client = serve_http1(limits=HttpLimits(max_body=1000)).connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n" + b"a" * 3_000_000)
    assert client.answer().status == 413
    assert client.rest() == b""


def test_refuses_what_turns_out_too_large(serve_http1):
    server = serve_http1(limits=HttpLimits(max_body=1000))
    assert server.ask(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"a" * 1000).status == 200
    assert server.ask(CHUNKED + b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n").status == 200
    refused(server, CHUNKED + b"3e9\r\n" + b"a" * 1001 + b"\r\n0\r\n\r\n", 413)
    refused(server, CHUNKED + (b"64\r\n" + b"a" * 100 + b"\r\n") * 11 + b"0\r\n\r\n", 413)
    for size, status in (1000, 200), (1001, 413), (100_000, 413):
        body = gzip.compress(b"a" * size)
        head = b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert server.ask(head + body).status == status
    broken = b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    refused(server, broken + b"3e9\r\n" + b"a" * 1001 + b"\r\n0\r\n\r\n", 413)


def test_refuses_a_gzip_bomb_by_its_ratio(serve_http1):
    server = serve_http1(limits=HttpLimits(gzip_ratio_from=100_000, max_gzip_ratio=100))
    for size, status in (100_000, 200), (1_000_000, 413):
        body = gzip.compress(b"\0" * size)
        assert size / len(body) > 500
        answer = server.ask(
            b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert answer.status == status
    assert "100 times" in answer.error


def test_answers_408_to_a_head_that_does_not_end(serve_http1):
    """Even though something of it comes all the time."""
    server = serve_http1(limits=HttpLimits(head_timeout=0.1))
    client = server.connect()
    client.send(b"GET / HTTP/1.1\r\n")
    client.socket.settimeout(0.02)
    answer = b""
    for _ in range(500):
        try:
            answer = client.socket.recv(1000)
            break
        except TimeoutError:
            client.send(b"A: b\r\n")
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"0.1 s" in answer


@pytest.mark.parametrize("head", [b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n", CHUNKED + b"a\r\n"])
def test_answers_408_to_a_body_that_stops(serve_http1, head):
    client = serve_http1(limits=HttpLimits(body_timeout=0.1)).connect()
    answer = client.ask(head + b"abc")
    assert answer.status == 408
    assert "0.1 s" in answer.error
    assert client.rest() == b""


def test_waits_for_a_slow_body_that_moves(serve_http1):
    client = serve_http1(limits=HttpLimits(body_timeout=60, head_timeout=0.1)).connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
    for _ in range(9):
        client.send(b"a")
        time.sleep(0.03)  # longer than head_timeout in all: that one must not apply here
    assert client.ask(b"a").asked["body"] == "a" * 10


def test_closes_an_idle_connection_without_a_word(serve_http1):
    assert serve_http1(limits=HttpLimits(idle_timeout=0.1)).connect().rest() == b""
    # A busy machine needs some time until it asks.
    client = serve_http1(limits=HttpLimits(idle_timeout=1)).connect()
    assert client.ask(b"GET / HTTP/1.1\r\n\r\n").status == 200
    assert client.rest() == b""


def test_does_not_count_the_time_of_the_handler(serve_http1):
    import asyncio

    async def slow(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.8)
        return await echo(request)

    client = serve_http1(slow, HttpLimits(idle_timeout=0.6, head_timeout=0.6, body_timeout=0.6)).connect()
    for ending in (b"\r\n", b"Connection: close\r\n\r\n"):
        assert client.ask(b"GET / HTTP/1.1\r\n" + ending).status == 200


def test_closes_a_refused_connection_whose_client_does_not(serve_http1):
    server = serve_http1(limits=HttpLimits(linger=0.05))
    client = server.connect()
    client.send(b"nonsense\r\n\r\n")
    server.wait_until_none()


def test_refuses_connections_beyond_the_limit(serve_http1):
    server = serve_http1(limits=HttpLimits(max_connections=2))
    first, second = server.connect(), server.connect()
    for client in (first, second):
        assert client.ask(b"GET / HTTP/1.1\r\n\r\n").status == 200
    third = server.connect()
    answer = third.answer()
    assert answer.status == 503
    assert "2 connections" in answer.error
    assert third.rest() == b""
    assert second.ask(b"GET / HTTP/1.1\r\n\r\n").status == 200


def test_gives_back_the_place_of_a_connection_that_ended():
    with running(echo, HttpLimits(max_connections=1)) as server:
        for _ in range(3):
            client = server.connect()
            assert client.ask(b"GET / HTTP/1.1\r\n\r\n").status == 200
            client.close()
            server.wait_until_none()
