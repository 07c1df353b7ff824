"""Clients that take long on purpose, and more of them than allowed, on raw sockets."""

import asyncio
import gzip
import socket
import ssl
import time
from collections.abc import Iterator

import ngh2
import pytest
import trustme
from grpc_serving import WAIT, Server, connect, prefixed
from http1_running import echo

from pyserving.core.errors import Code
from pyserving.transport.balance import Balance
from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.http1 import Http1Server
from pyserving.transport.limits import HttpLimits
from pyserving.transport.listener import Listener, open_tcp, port_of
from pyserving.transport.loop import new_event_loop


def read_to_end(sock: socket.socket) -> bytes:
    received = b""
    try:
        while data := sock.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize("loop_factory", [new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_tls_handshake_that_does_not_end(loop_factory, shared) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    def hang(port: int, first: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port), WAIT) as client:
            client.sendall(first)
            read_to_end(client)

    async def main() -> None:
        sockets = open_tcp("127.0.0.1", 0)
        share = Balance(1, 1).seat(0).share(0) if shared else None
        server = Http1Server(echo)
        listener = Listener(sockets, server.new_connection, tls=context, share=share, handshake_timeout=0.1)
        await listener.start()
        for first in (b"", b"\x16\x03\x01\x02\x00\x01"):
            await asyncio.to_thread(hang, port_of(sockets[0]), first)
        assert await listener.stop(10) == 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_body_that_comes_a_byte_at_a_time(serve_http1) -> None:
    """Each byte comes in time; the whole would take an hour."""
    client = serve_http1(limits=HttpLimits(body_timeout=0.3, min_body_rate=1000)).connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
    client.socket.settimeout(0.05)
    answer = b""
    end = time.monotonic() + WAIT
    while not answer and time.monotonic() < end:
        try:
            answer = client.socket.recv(1000)
        except TimeoutError:
            client.send(b"x")
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_a_large_body_may_take_longer_than_the_timeout_in_all(serve_http1) -> None:
    client = serve_http1(limits=HttpLimits(body_timeout=1.2, min_body_rate=1000)).connect()
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 10000\r\n\r\n")
    for _ in range(10):
        client.send(b"x" * 1000)
        time.sleep(0.14)  # in all longer than body_timeout: that must not count
    assert client.answer().status == 200


@pytest.fixture(scope="module")
def impatient() -> Iterator[Server]:
    with Server(GrpcLimits(body_timeout=0.1, send_timeout=0.1, gzip_ratio_from=100_000)) as running:
        yield running


@pytest.mark.parametrize("sent", [b"", b"\0", prefixed(b"x" * 100)[:50], prefixed(b"x" * 100_000)[:90_000]])
def test_a_grpc_message_that_stops(impatient: Server, sent: bytes) -> None:
    with connect(impatient) as client:
        stream = client.begin()
        if sent:
            client.h2.send_data(stream, sent)
        assert client.finish(stream).status == Code.DEADLINE_EXCEEDED
        assert client.finish(client.request(b"x")).message == b"x"


def test_a_grpc_stream_may_be_as_slow_as_it_likes_and_a_handler_too(impatient: Server) -> None:
    with connect(impatient) as client:
        chat = client.begin("/test.Test/Chat")
        waiting = client.request(b"x", "/test.Test/Wait")
        client.send()
        for _ in range(2):  # that many looks at least
            stuck = client.begin()
            assert client.finish(stuck).status == Code.DEADLINE_EXCEEDED
        assert not client.answers[chat].closed
        assert not client.answers[waiting].closed
        impatient.open_gate()
        assert client.finish(waiting).message == b"x"
        client.h2.send_data(chat, prefixed(b"x"), end_stream=True)
        assert client.finish(chat).status == Code.OK


def test_a_grpc_client_that_takes_no_answers(impatient: Server) -> None:
    with connect(impatient, {ngh2.Setting.INITIAL_WINDOW_SIZE: (1 << 31) - 1}) as client:
        client.h2.set_local_window_size((1 << 31) - 1)
        for _ in range(8):
            client.request(b"%d" % (8 << 20), "/test.Test/Fill")
        client.step()  # the first bytes, so that the server is known to have the connection
        until = time.monotonic() + WAIT
        while impatient.connections() and time.monotonic() < until:
            time.sleep(0.02)
        assert impatient.connections() == 0


def test_a_gzip_bomb_over_grpc_by_its_ratio(impatient: Server) -> None:
    with connect(impatient) as client:
        for size, code in (100_000, Code.OK), (1_000_000, Code.RESOURCE_EXHAUSTED):
            body = gzip.compress(b"\0" * size)
            stream = client.begin("/test.Test/Echo", (b"grpc-encoding", b"gzip"))
            client.h2.send_data(stream, prefixed(body, 1), end_stream=True)
            assert client.finish(stream).status == code


def test_more_grpc_connections_than_allowed() -> None:
    with Server(GrpcLimits(max_connections=1)) as server:
        with connect(server) as first:
            assert first.finish(first.request(b"x")).message == b"x"
            with connect(server) as second:
                second.until_eof()
                assert second.goaways[0].error_code == ngh2.ErrorCode.ENHANCE_YOUR_CALM
            assert first.finish(first.request(b"y")).message == b"y"
        until = time.monotonic() + WAIT
        while server.connections() and time.monotonic() < until:
            time.sleep(0.01)
        with connect(server) as third:
            assert third.finish(third.request(b"x")).message == b"x"
