"""What no gRPC library sends, sent as frames."""

import asyncio
import contextlib
import gc
import gzip
import itertools
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import ngh2
import pytest
from grpc_memory import in_memory
from grpc_serving import WAIT, FrameClient, Server, connect, prefixed
from hypothesis import given
from hypothesis import strategies as st

from pyserving.core.errors import Code
from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.http2 import Stream
from pyserving.transport.loop import new_event_loop

LIMITS = GrpcLimits(max_receive_message=100_000)
GZIP = (b"grpc-encoding", b"gzip")


@pytest.fixture(scope="module", params=[new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(LIMITS, loop_factory=request.param) as running:
        yield running


# Lies about messages: the call fails with a status, the connection goes on


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"", Code.UNIMPLEMENTED, "got none"),
        (b"\0\0\0", Code.INTERNAL, "ended inside a message"),
        (prefixed(b"abc")[:-1], Code.INTERNAL, "ended inside a message"),
        (b"\0\0\0\0\x09abc", Code.INTERNAL, "ended inside a message"),
        (b"\0\0\0\0\x01abc", Code.INTERNAL, "ended inside a message"),
        (prefixed(b"abc") + b"\0", Code.INTERNAL, "ended inside a message"),
        (prefixed(b"abc") * 2, Code.UNIMPLEMENTED, "got more"),
        (prefixed(b"abc", flag=2), Code.INTERNAL, "flag 0 or 1, got 2"),
        (prefixed(b"abc", flag=1), Code.INTERNAL, "no grpc-encoding"),
        (b"\0" + (100_001).to_bytes(4, "big"), Code.RESOURCE_EXHAUSTED, "larger than max (100001 vs. 100000)"),
        (b"\0\xff\xff\xff\xff", Code.RESOURCE_EXHAUSTED, "larger than max (4294967295 vs. 100000)"),
    ],
)
def test_a_lie_fails_its_call_only(server: Server, body: bytes, code: Code, text: str) -> None:
    with connect(server) as client:
        stream = client.begin()
        client.h2.send_data(stream, body, end_stream=True)
        answer = client.finish(stream)
        assert answer.status == code
        assert text in answer.text
        assert answer.headers[b":status"] == b"200"
        assert answer.headers[b"content-type"] == b"application/grpc"
        assert client.finish(client.request(b"next")).message == b"next"


def test_headers_that_end_the_stream_are_a_call_without_a_message(server: Server) -> None:
    with connect(server) as client:
        answer = client.finish(client.begin(end=True))
        assert answer.status == Code.UNIMPLEMENTED
        assert "got none" in answer.text


def test_a_message_too_large_is_refused_before_it_is_sent_and_the_sender_told_to_stop(server: Server) -> None:
    with connect(server) as client:
        stream = client.begin()
        client.h2.send_data(stream, b"\0" + (1 << 30).to_bytes(4, "big"))
        client.until(lambda: client.answers[stream].reset is not None)
        assert client.answers[stream].reset == ngh2.ErrorCode.NO_ERROR
        assert client.answers[stream].status == Code.RESOURCE_EXHAUSTED
        assert client.finish(client.request(b"next")).message == b"next"


def test_a_decompression_bomb_is_refused(server: Server) -> None:
    with connect(server) as client:
        stream = client.begin("/test.Test/Echo", GZIP)
        client.h2.send_data(stream, prefixed(gzip.compress(bytes(50_000_000)), 1), end_stream=True)
        answer = client.finish(stream)
        assert answer.status == Code.RESOURCE_EXHAUSTED
        assert "larger than max" in answer.text


@pytest.mark.parametrize("size", [10, 90_000])
def test_compressed_requests_on_and_off_the_loop(server: Server, size: int) -> None:
    message = bytes(byte % 251 for byte in range(size))
    with connect(server) as client:
        stream = client.begin("/test.Test/Echo", GZIP)
        client.h2.send_data(stream, prefixed(gzip.compress(message, 0), 1), end_stream=True)
        assert client.finish(stream).message == message


def test_bad_compressed_bytes(server: Server) -> None:
    with connect(server) as client:
        stream = client.begin("/test.Test/Echo", GZIP)
        client.h2.send_data(stream, prefixed(b"not gzip", 1), end_stream=True)
        assert client.finish(stream).status == Code.INTERNAL


def test_an_unsupported_encoding_is_told_what_is_supported(server: Server) -> None:
    with connect(server) as client:
        answer = client.finish(client.request(b"x", "/test.Test/Echo", (b"grpc-encoding", b"snappy")))
        assert answer.status == Code.UNIMPLEMENTED
        assert "snappy" in answer.text
        assert answer.headers[b"grpc-accept-encoding"] == b"identity,deflate,gzip"


# Requests that are not gRPC


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"HEAD"])
def test_methods_other_than_post(server: Server, method: bytes) -> None:
    with connect(server) as client:
        assert client.finish(client.begin(method=method, end=True)).headers[b":status"] == b"405"


@pytest.mark.parametrize("content_type", [b"", b"application/json", b"application/grpcfoo", b"application/grpc-web"])
def test_other_content_types(server: Server, content_type: bytes) -> None:
    with connect(server) as client:
        stream = client.begin(content_type=content_type)
        client.h2.send_data(stream, b"{}", end_stream=True)
        assert client.finish(stream).headers[b":status"] == b"415"
        assert client.finish(client.request(b"next")).message == b"next"


@pytest.mark.parametrize(
    ("content_type", "answered"),
    [
        (b"application/grpc+proto", b"application/grpc+proto"),
        (b"application/grpc; charset=utf-8", b"application/grpc"),
        (b"Application/GRPC", b"application/grpc"),
    ],
)
def test_content_types_of_grpc(server: Server, content_type: bytes, answered: bytes) -> None:
    with connect(server) as client:
        stream = client.begin(content_type=content_type)
        client.h2.send_data(stream, prefixed(b"x"), end_stream=True)
        assert client.finish(stream).message == b"x"
        assert client.answers[stream].headers[b"content-type"] == answered


def test_an_unknown_method_is_named(server: Server) -> None:
    with connect(server) as client:
        answer = client.finish(client.request(b"", "/no.Such/Method"))
        assert (answer.status, answer.text) == (Code.UNIMPLEMENTED, "Unknown method /no.Such/Method")


# Deadlines and metadata


@pytest.mark.parametrize(
    ("timeout", "code"), [(b"0n", Code.DEADLINE_EXCEEDED), (b"1x", Code.INTERNAL), (b"123456789S", Code.INTERNAL)]
)
def test_a_request_whose_deadline_passed_or_makes_no_sense_is_not_run(
    server: Server, timeout: bytes, code: Code
) -> None:
    runs = server.methods.runs
    with connect(server) as client:
        answer = client.finish(client.request(b"x", "/test.Test/Echo", (b"grpc-timeout", timeout)))
        assert answer.status == code
        assert server.methods.runs == runs


def test_a_deadline_ends_a_call_that_waits_and_cancels_its_handler(server: Server) -> None:
    with connect(server) as client:
        answer = client.finish(client.request(b"x", "/test.Test/Wait", (b"grpc-timeout", b"30m")))
        assert answer.status == Code.DEADLINE_EXCEEDED
        assert server.methods.cancelled.acquire(timeout=WAIT)


def test_the_longest_deadline_is_no_trouble(server: Server) -> None:
    with connect(server) as client:
        stream = client.request(b"x", "/test.Test/EchoLater", (b"grpc-timeout", b"99999999H"))
        assert client.finish(stream).message == b"x"


def test_metadata_is_passed_without_what_belongs_to_grpc(server: Server) -> None:
    extra = ((b"x-a", b"1"), (b"grpc-foo", b"2"), (b"x-a", b"3"), (b"x-b-bin", b"AAE"), (b"user-agent", b"me"))
    with connect(server) as client:
        client.finish(client.request(b"x", "/test.Test/Echo", *extra))
    assert list(server.methods.contexts[-1].metadata) == [
        ("x-a", "1"),
        ("x-a", "3"),
        ("x-b-bin", "AAE"),
        ("user-agent", "me"),
    ]


# Streams


def test_trailers_end_a_request(server: Server) -> None:
    with connect(server) as client:
        stream = client.begin()
        client.h2.send_data(stream, prefixed(b"abc"))
        client.h2.send_trailers(stream, [(b"x-end", b"1")])
        assert client.finish(stream).message == b"abc"


def test_a_reset_cancels_the_handler(server: Server) -> None:
    with connect(server) as client:
        stream = client.request(b"x", "/test.Test/Wait")
        client.send()
        assert server.methods.waiting.acquire(timeout=WAIT)
        client.h2.reset_stream(stream)
        client.send()
        assert server.methods.cancelled.acquire(timeout=WAIT)
        assert client.finish(client.request(b"next")).message == b"next"


def test_a_request_and_its_reset_in_one_read(server: Server) -> None:
    with connect(server) as client:
        stream = client.request(b"x")
        data = client.h2.data_to_send()
        client.h2.reset_stream(stream)
        client.socket.sendall(data + client.h2.data_to_send())
        assert client.finish(client.request(b"next")).message == b"next"


def test_a_lost_connection_cancels_its_handlers(server: Server) -> None:
    with connect(server) as client:
        client.request(b"x", "/test.Test/Wait")
        client.send()
        assert server.methods.waiting.acquire(timeout=WAIT)
    assert server.methods.cancelled.acquire(timeout=WAIT)


def test_an_exception_is_logged_and_not_shown(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with connect(server) as client, caplog.at_level(logging.ERROR, "pyserving.transport"):
        answer = client.finish(client.request(b"x", "/test.Test/Break"))
    assert (answer.status, answer.text) == (Code.INTERNAL, "internal error")
    assert "ZeroDivisionError" in caplog.text
    assert "secret" in caplog.text


def test_messages_held_on_a_connection_are_bounded() -> None:
    with Server(GrpcLimits(max_held_requests=1000)) as server, connect(server) as client:
        client.request(bytes(800), "/test.Test/Wait")
        client.send()
        assert server.methods.waiting.acquire(timeout=WAIT)
        answer = client.finish(client.request(bytes(300)))
        assert answer.status == Code.RESOURCE_EXHAUSTED
        assert "(1100 vs. 1000)" in answer.text
        assert client.finish(client.request(bytes(100))).message == bytes(100)
        server.open_gate()
        client.finish(1)
        assert client.finish(client.request(bytes(1500))).message == bytes(1500), "one alone is let in"


def test_a_peer_that_takes_no_answers_cannot_make_us_keep_many() -> None:
    size = 100_000
    with Server(GrpcLimits(max_queued=3 * size)) as server, connect(server, {4: 0}) as client:
        streams = [client.request(b"%d" % size, "/test.Test/Fill") for _ in range(50)]
        client.until(lambda: b":status" in client.answers[streams[0]].headers)
        with connect(server) as other:
            assert other.finish(other.request(b"x")).message == b"x"
        # The echo went through the loop after the fills: those that were to run have run.
        assert server.methods.runs - 1 <= 5
        late = client.request(b"1", "/test.Test/Fill", (b"grpc-timeout", b"20m"))
        assert client.finish(late).status == Code.DEADLINE_EXCEEDED, "a held call has its deadline"
        client.h2.update_settings({4: 1 << 20})
        client.h2.set_local_window_size(1 << 30)
        client.finish(*streams)
        assert [client.answers[stream].message for stream in streams] == [bytes(size)] * 50


# Connections


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


@pytest.mark.parametrize("pieces", [[b"GET / HTTP/1.1\r\n\r\n"], [b"P", b"OST /v1/models/m HTTP/1.1"]])
def test_an_http1_client_is_told_where_it_is(server: Server, pieces: list[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"This port speaks gRPC" in answer


def goaway_in(data: bytes) -> tuple[int, int]:
    """(last stream, error code) of the first GOAWAY among frames."""
    while data:
        length = int.from_bytes(data[:3], "big")
        if data[3] == 7:
            return int.from_bytes(data[9:13], "big"), int.from_bytes(data[13:17], "big")
        data = data[9 + length :]
    raise AssertionError("no GOAWAY")


def test_garbage_gets_a_goaway(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")  # as a TLS client begins
        assert goaway_in(read_all(sock)) == (0, ngh2.ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "frame",
    [
        b"\0\0\x01\0\0\0\0\0\0x",  # DATA on stream 0
        b"\0\0\x01\0\0\0\0\0\x09x",  # DATA on an idle stream
        b"\0\0\x05\x06\0\0\0\0\0abcde",  # a PING of five bytes
        b"\xff\xff\xff\0\0\0\0\0\x01",  # a frame of 16 MiB
        b"\0\0\x04\x01\x04\0\0\0\x03\xff\xff\xff\xff",  # HEADERS that are no HPACK
    ],
)
def test_a_peer_that_breaks_the_protocol_gets_a_goaway_and_others_go_on(server: Server, frame: bytes) -> None:
    with connect(server) as good, connect(server) as bad:
        good.finish(good.request(b"1"))
        bad.finish(bad.request(b"1"))
        bad.socket.sendall(frame)
        bad.until_eof()
        assert [goaway.error_code != 0 for goaway in bad.goaways] == [True]
        assert good.finish(good.request(b"2")).message == b"2"


def test_a_header_list_far_over_the_limit_ends_the_connection(server: Server) -> None:
    with connect(server) as client:
        client.begin("/test.Test/Echo", *((b"x-%d" % n, b"v") for n in range(1800)))
        client.until_eof()
        assert client.goaways[0].error_code == ngh2.ErrorCode.ENHANCE_YOUR_CALM


def test_resets_beyond_a_rate_end_the_connection() -> None:
    with Server(GrpcLimits(reset_burst=50, reset_rate=0)) as server, connect(server) as client:

        def reset(times: int) -> None:
            for _ in range(times):
                stream = client.request(b"x", "/test.Test/Wait")
                client.send()
                client.h2.reset_stream(stream)
                client.send()

        reset(50)
        assert client.finish(client.request(b"x")).message == b"x"
        reset(1)
        client.until_eof()
        assert client.goaways[0].error_code == ngh2.ErrorCode.ENHANCE_YOUR_CALM


def test_a_connection_without_a_preface_is_closed() -> None:
    with (
        Server(GrpcLimits(preface_timeout=0.02)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as sock,
    ):
        sock.sendall(b"PRI * HTTP/2.0\r\n")
        read_all(sock)


def test_a_silent_peer_is_asked_and_dropped() -> None:
    with Server(GrpcLimits(keepalive_time=0.02, keepalive_timeout=0.02)) as server, connect(server) as client:
        client.send()
        received = b""
        with contextlib.suppress(ConnectionResetError):
            received = read_all(client.socket)  # and no ACK
        assert b"alive" in received


def test_a_peer_that_acknowledges_pings_stays() -> None:
    with Server(GrpcLimits(keepalive_time=0.01)) as server, connect(server) as client:
        client.until(lambda: client.pings >= 3)
        assert client.finish(client.request(b"x")).message == b"x"


def test_an_idle_connection_is_drained_and_one_in_use_is_not() -> None:
    with Server(GrpcLimits(idle_timeout=0.4)) as server, connect(server) as client:
        stream = client.request(b"x", "/test.Test/Wait")
        client.send()
        assert server.methods.waiting.acquire(timeout=WAIT)
        with connect(server) as idle:
            idle.until_eof()
            assert idle.goaways[-1].error_code == 0
        server.open_gate()
        assert client.finish(stream).message == b"x"
        client.until_eof()


def test_drain_serves_what_was_under_way_then_closes() -> None:
    with Server() as server, connect(server) as client:
        stream = client.request(b"slow", "/test.Test/Wait")
        client.send()
        assert server.methods.waiting.acquire(timeout=WAIT)
        stopped: list[int] = []
        stopping = threading.Thread(target=lambda: stopped.append(server.stop(WAIT)))
        # A second request races with the notice: it is read by the server after its drain began.
        racing = client.request(b"racing")
        racing_bytes = client.h2.data_to_send()
        stopping.start()
        while not client.goaways:  # receives only: the PING stays without its ACK
            client.receive(client.socket.recv(65536))
        assert client.goaways[0].last_stream_id == 0x7FFFFFFF
        client.socket.sendall(racing_bytes)
        assert client.finish(racing).message == b"racing"
        client.until(lambda: len(client.goaways) == 2)
        assert client.goaways[1].last_stream_id == racing
        server.open_gate()
        assert client.finish(stream).message == b"slow"
        client.until_eof()
        stopping.join(WAIT)
        assert stopped == [0]


def test_drain_of_a_peer_that_does_not_answer_ends_with_the_grace() -> None:
    with Server() as server, connect(server) as client:
        client.request(b"x", "/test.Test/Wait")
        client.send()
        assert server.methods.waiting.acquire(timeout=WAIT)
        assert server.stop(0.05) == 1
        assert server.methods.cancelled.acquire(timeout=WAIT)


# One connection in memory: bytes in, writes out


def run(coroutine: object) -> None:
    asyncio.run(coroutine)  # type: ignore[arg-type]


def test_all_answers_to_one_read_leave_in_one_write() -> None:
    async def scenario() -> None:
        connection, transport, _ = in_memory(LIMITS)
        client = FrameClient()
        connection.data_received(client.h2.data_to_send())
        await asyncio.sleep(0)
        client.receive(b"".join(transport.writes))
        transport.writes.clear()
        streams = [client.request(b"%d" % n) for n in range(20)]
        connection.data_received(client.h2.data_to_send())
        await asyncio.sleep(0)
        assert len(transport.writes) == 1
        client.receive(transport.writes[0])
        assert [client.answers[stream].message for stream in streams] == [b"%d" % n for n in range(20)]
        connection.connection_lost(None)

    run(scenario())


def test_answers_that_come_later_share_a_write() -> None:
    async def scenario() -> None:
        connection, transport, methods = in_memory(LIMITS)
        client = FrameClient()
        streams = [client.request(b"%d" % n, "/test.Test/Wait") for n in range(20)]
        connection.data_received(client.h2.data_to_send())
        await asyncio.sleep(0)
        client.receive(b"".join(transport.writes))
        transport.writes.clear()
        methods.gate.set()
        while not transport.writes:
            await asyncio.sleep(0)
        assert len(transport.writes) == 1
        client.receive(transport.writes[0])
        assert [client.answers[stream].message for stream in streams] == [b"%d" % n for n in range(20)]
        connection.connection_lost(None)

    run(scenario())


def test_a_call_leaves_no_garbage() -> None:
    async def scenario() -> None:
        connection, transport, methods = in_memory(LIMITS)
        methods.gate.set()
        client = FrameClient()
        paths = ("/test.Test/Echo", "/test.Test/EchoLater", "/test.Test/Wait", "/test.Test/Nothing")
        gc.collect()
        gc.disable()
        try:
            streams = [client.request(b"x", path, (b"grpc-timeout", b"1H")) for path in paths]
            connection.data_received(client.h2.data_to_send())
            while not all(client.answers[stream].closed for stream in streams):
                client.receive(b"".join(transport.writes))
                transport.writes.clear()
                await asyncio.sleep(0)
            alive = [thing for thing in gc.get_objects() if isinstance(thing, Stream)]
        finally:
            gc.enable()
        assert alive == []
        connection.connection_lost(None)

    run(scenario())


def test_a_paused_transport_gets_no_more_and_a_peer_that_does_not_read_is_not_read_from() -> None:
    async def scenario() -> None:
        connection, transport, _ = in_memory(replace(LIMITS, max_receive_message=-1))
        client = FrameClient({4: 1 << 30})
        client.h2.set_local_window_size(1 << 30)
        stream = client.request(b"%d" % (4 << 20), "/test.Test/Fill")
        connection.pause_writing()
        connection.data_received(client.h2.data_to_send())
        assert len(transport.writes) == 1  # the preface
        connection.resume_writing()
        await asyncio.sleep(0)
        assert sum(map(len, transport.writes)) > 4 << 20
        assert max(map(len, transport.writes)) <= 256 * 1024
        client.receive(b"".join(transport.writes))
        assert client.answers[stream].message == bytes(4 << 20)

        connection.pause_writing()
        client.request(bytes(3 << 20))
        while transport.reading and (data := client.h2.data_to_send(65536)):
            connection.data_received(data)
        assert not transport.reading
        connection.resume_writing()
        assert transport.reading
        connection.connection_lost(None)

    run(scenario())


def conversation() -> bytes:
    client = FrameClient()
    for n, size in enumerate((0, 3, 20_000)):
        client.request(bytes([n]) * size, "/test.Test/Echo", (b"grpc-timeout", b"1H"))
    return client.h2.data_to_send()


CONVERSATION = conversation()


@given(st.lists(st.integers(1, len(CONVERSATION) - 1), max_size=40))
def test_any_split_of_a_conversation_gives_the_same_answers(cuts: list[int]) -> None:
    async def scenario() -> None:
        connection, transport, methods = in_memory(LIMITS)
        edges = [0, *sorted(set(cuts)), len(CONVERSATION)]
        for start, end in itertools.pairwise(edges):
            connection.data_received(CONVERSATION[start:end])
        await asyncio.sleep(0)
        client = FrameClient({4: 1 << 20})
        for _ in range(3):
            client.begin()
        client.h2.data_to_send()
        client.receive(b"".join(transport.writes))
        assert [client.answers[stream].message for stream in (1, 3, 5)] == [b"", b"\x01" * 3, b"\x02" * 20_000]
        assert methods.runs == 3
        connection.connection_lost(None)

    run(scenario())
