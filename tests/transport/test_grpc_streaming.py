"""Streaming calls, frame by frame: messages, ends, and flow control both ways."""

import asyncio
import gc
import gzip
import itertools
from collections.abc import Iterator

import ngh2
import pytest
from grpc_memory import in_memory
from grpc_serving import WAIT, FrameClient, Server, SocketClient, connect, prefixed
from hypothesis import given
from hypothesis import strategies as st

from pyserving.core.errors import Code
from pyserving.transport.grpc_call import StreamingCall
from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.loop import new_event_loop

CHAT, POUR, SIP, SETTLE = (f"/test.Test/{name}" for name in ("Chat", "Pour", "Sip", "Settle"))
SMALL_WINDOWS = GrpcLimits(stream_window=70_000, connection_window=100_000, max_receive_message=1_000_000)


@pytest.fixture(scope="module", params=[new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(SMALL_WINDOWS, loop_factory=request.param) as running:
        yield running


def say(client: SocketClient, stream: int, *messages: bytes, end: bool = False) -> None:
    client.h2.send_data(stream, b"".join(map(prefixed, messages)), end_stream=end)


def hear(client: SocketClient, stream: int, *messages: bytes) -> None:
    """Waits until exactly these messages came, from the beginning of the stream."""
    expected = b"".join(map(prefixed, messages))
    client.until(lambda: len(client.answers[stream].data) >= len(expected))
    assert client.answers[stream].data == expected


# Messages and ends


def test_a_conversation(server: Server) -> None:
    with connect(server) as client:
        stream = client.begin(CHAT)
        say(client, stream, b"a")
        hear(client, stream, b"a")
        assert client.answers[stream].headers[b":status"] == b"200"
        say(client, stream, b"", b"bc")
        hear(client, stream, b"a", b"", b"bc")
        client.h2.end_stream(stream)
        assert client.finish(stream).trailers == {b"grpc-status": b"0"}
        assert client.answers[stream].reset is None


def test_a_handler_that_ends_before_the_client_tells_it_to_stop(server: Server) -> None:
    with connect(server) as client:
        stream = client.begin(CHAT)
        say(client, stream, b"a", b".", b"b")
        client.until(lambda: client.answers[stream].reset is not None)
        assert client.answers[stream].reset == ngh2.ErrorCode.NO_ERROR
        assert client.answers[stream].message == b"a"


def test_the_end_of_an_answer_that_the_client_has_no_window_for_is_not_lost(server: Server) -> None:
    with connect(server, {4: 10}) as client:
        stream = client.begin(CHAT)
        say(client, stream, bytes(1000), b".")
        client.until(lambda: len(client.answers[stream].data) == 10)
        client.h2.ping(b"12345678")
        client.finish(client.request(b"", "/test.Test/Echo"))  # all before this was handled
        assert client.answers[stream].reset is None
        client.h2.update_settings({4: 100_000})
        client.until(lambda: client.answers[stream].reset is not None)
        assert client.answers[stream].message == bytes(1000)


@pytest.mark.parametrize(("before", "begun"), [((), False), ((b"a", b"b"), True)])
def test_a_failure_before_and_after_messages(server: Server, before: tuple[bytes, ...], begun: bool) -> None:
    with connect(server) as client:
        stream = client.begin(CHAT)
        say(client, stream, *before, b"!NOT_FOUND no such thing", end=True)
        answer = client.finish(stream)
        assert (answer.status, answer.text) == (Code.NOT_FOUND, "no such thing")
        assert answer.data == b"".join(map(prefixed, before))
        assert bool(answer.trailers) == begun


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"\0\0\0", Code.INTERNAL, "ended inside a message"),
        (prefixed(b"abc")[:-1], Code.INTERNAL, "ended inside a message"),
        (prefixed(b"abc", flag=2), Code.INTERNAL, "flag 0 or 1, got 2"),
        (prefixed(b"abc", flag=1), Code.INTERNAL, "no grpc-encoding"),
        (b"\0" + (1_000_001).to_bytes(4, "big"), Code.RESOURCE_EXHAUSTED, "larger than max (1000001 vs. 1000000)"),
    ],
)
def test_a_lie_about_a_message_ends_the_call_after_the_true_ones(
    server: Server, body: bytes, code: Code, text: str
) -> None:
    with connect(server) as client:
        for in_one in (True, False):
            stream = client.begin(CHAT)
            say(client, stream, b"true")
            if not in_one:
                hear(client, stream, b"true")
            client.h2.send_data(stream, body, end_stream=True)
            answer = client.finish(stream)
            assert answer.data == prefixed(b"true")
            assert answer.status == code
            assert text in answer.text


def test_compressed_messages_among_plain_ones(server: Server) -> None:
    with connect(server) as client:
        stream = client.begin(CHAT, (b"grpc-encoding", b"gzip"))
        big = bytes(300_000)
        for message, flag in ((b"a", 0), (big, 1), (b"b", 0)):
            client.h2.send_data(stream, prefixed(gzip.compress(message) if flag else message, flag))
        client.h2.end_stream(stream)
        answer = client.finish(stream)
        assert answer.status == 0
        assert answer.data == prefixed(b"a") + prefixed(big) + prefixed(b"b")


def test_an_answer_over_the_limit() -> None:
    with Server(GrpcLimits(max_send_message=100)) as limited, connect(limited) as client:
        assert client.finish(client.request(bytes(100))).message == bytes(100)
        for path in (CHAT, "/test.Test/Echo"):
            answer = client.finish(client.request(bytes(101), path))
            assert (answer.status, answer.text) == (
                Code.RESOURCE_EXHAUSTED,
                "Sent message larger than max (101 vs. 100)",
            )


# Cancelling


def test_a_deadline_ends_a_stream_and_its_handler(server: Server) -> None:
    with connect(server) as client:
        stream = client.begin(SETTLE, (b"grpc-timeout", b"50m"))
        answer = client.finish(stream)
        assert answer.data == prefixed(b"begun")
        assert answer.status == Code.DEADLINE_EXCEEDED
        assert server.methods.waiting.acquire(timeout=WAIT)
        assert server.methods.cancelled.acquire(timeout=WAIT)


def test_a_stream_whose_deadline_passed_is_not_run(server: Server) -> None:
    with connect(server) as client:
        answer = client.finish(client.begin(SETTLE, (b"grpc-timeout", b"0n")))
        assert answer.status == Code.DEADLINE_EXCEEDED
        assert not server.methods.waiting.acquire(blocking=False)


@pytest.mark.parametrize("how", ["reset", "lost"])
def test_a_client_that_leaves_cancels_the_handler(server: Server, how: str) -> None:
    with connect(server) as client:
        stream = client.begin(SETTLE)
        hear(client, stream, b"begun")
        if how == "reset":
            client.h2.reset_stream(stream)
            client.send()
            assert server.methods.cancelled.acquire(timeout=WAIT)
    if how == "lost":
        assert server.methods.cancelled.acquire(timeout=WAIT)
    assert server.methods.waiting.acquire(timeout=WAIT)


# Flow control


def test_a_handler_waits_while_the_client_has_no_window(server: Server) -> None:
    with connect(server, {4: 0}) as client:
        runs = server.methods.runs
        streams = [client.request(b"500 1000", POUR) for _ in range(3)]
        client.until(lambda: all(client.answers[stream].headers for stream in streams))
        client.finish(client.request(b"", "/test.Test/Fail"))  # a failure has no body, hence needs no window
        assert server.methods.runs - runs <= 3 * 20
        client.h2.set_local_window_size(1 << 20)
        client.h2.update_settings({4: 30_000})
        client.finish(*streams)
        assert [len(client.answers[stream].data) for stream in streams] == [500 * 1005] * 3
        assert server.methods.runs - runs == 1500


def test_a_client_has_no_more_window_than_the_handler_leaves_it() -> None:
    total = 40 * 10_000
    with Server(SMALL_WINDOWS) as server, connect(server) as client:
        stream = client.begin(SIP)
        say(client, stream, *[bytes(10_000)] * 40, end=True)
        client.send()
        assert server.methods.waiting.acquire(timeout=WAIT)
        client.finish(client.request(b"x", "/test.Test/Echo"))
        assert client.h2.queued_body_size(stream) == total + 40 * 5 - SMALL_WINDOWS.stream_window
        server.open_gate()
        assert client.finish(stream).message == b"%d" % total


def test_a_message_larger_than_the_window(server: Server) -> None:
    message = bytes(range(250)) * 4000
    with connect(server) as client:
        stream = client.begin(CHAT)
        say(client, stream, message, b"next", message, end=True)
        answer = client.finish(stream)
        assert answer.data == prefixed(message) + prefixed(b"next") + prefixed(message)


@pytest.mark.parametrize("ending", ["reset", "deadline"])
def test_what_nobody_took_of_a_stream_does_not_shrink_the_connections_window(server: Server, ending: str) -> None:
    with connect(server) as client:
        for _ in range(5):
            timeout = ((b"grpc-timeout", b"20m"),) if ending == "deadline" else ()
            stream = client.begin(SIP, *timeout)
            say(client, stream, bytes(60_000))
            client.send()
            assert server.methods.waiting.acquire(timeout=WAIT)
            if ending == "reset":
                client.h2.reset_stream(stream)
            else:
                client.finish(stream)
            assert client.finish(client.request(bytes(60_000))).message == bytes(60_000)


def test_padding_counts_as_taken(server: Server) -> None:
    with connect(server) as client:
        stream = client.begin(CHAT)
        client.send()
        frame = (206).to_bytes(3, "big") + b"\0\x08" + stream.to_bytes(4, "big") + bytes([200])
        for count in range(50, 1001, 50):
            client.socket.sendall((frame + prefixed(b"") + bytes(200)) * 50)
            hear(client, stream, *[b""] * count)
        # 206,000 bytes went through windows of 70,000 and 100,000: else this connection were gone.


def test_a_handler_waits_while_the_socket_is_full() -> None:
    async def scenario() -> None:
        connection, transport, methods = in_memory()
        client = FrameClient({4: 1 << 30})
        client.h2.set_local_window_size(1 << 30)
        connection.data_received(client.h2.data_to_send())
        connection.pause_writing()
        stream = client.request(b"3000 1000", POUR)
        connection.data_received(client.h2.data_to_send())
        assert methods.runs <= 20
        connection.resume_writing()
        while not client.answers[stream].closed:
            await asyncio.sleep(0)
            client.receive(b"".join(transport.writes))
            transport.writes.clear()
        assert methods.runs == 3000
        connection.connection_lost(None)

    asyncio.run(scenario())


def test_a_stream_of_many_messages_lets_others_through() -> None:
    async def scenario() -> None:
        connection, transport, methods = in_memory()
        client = FrameClient({4: 1 << 30})
        client.h2.set_local_window_size(1 << 30)
        flood = client.request(b"100000 1", POUR)
        connection.data_received(client.h2.data_to_send())
        other = client.request(b"x")
        connection.data_received(client.h2.data_to_send())
        await asyncio.sleep(0)
        client.receive(b"".join(transport.writes))
        assert client.answers[other].message == b"x"
        assert not client.answers[flood].closed
        assert methods.runs < 10_000
        connection.connection_lost(None)

    asyncio.run(scenario())


def test_a_streaming_call_leaves_no_garbage() -> None:
    async def scenario() -> None:
        connection, transport, methods = in_memory()
        methods.gate.set()
        client = FrameClient()
        gc.collect()
        gc.disable()
        try:
            streams = [client.request(message, CHAT, (b"grpc-timeout", b"1H")) for message in (b"x", b".", b"!ABORTED")]
            streams += [client.request(b"x", SETTLE), client.request(b"2 10", POUR)]
            streams.append(client.begin(CHAT))
            connection.data_received(client.h2.data_to_send())
            client.h2.reset_stream(streams[-1])
            connection.data_received(client.h2.data_to_send())
            while not all(client.answers[stream].closed for stream in streams[:-1]):
                client.receive(b"".join(transport.writes))
                transport.writes.clear()
                await asyncio.sleep(0)
            alive = [thing for thing in gc.get_objects() if isinstance(thing, StreamingCall)]
        finally:
            gc.enable()
        assert alive == []
        connection.connection_lost(None)

    asyncio.run(scenario())


def conversation() -> bytes:
    client = FrameClient()
    client.request(b"3 7000", POUR)
    stream = client.begin(CHAT)
    for message in (b"", b"abc", bytes(20_000), b"d"):
        client.h2.send_data(stream, prefixed(message))
    client.h2.end_stream(stream)
    return client.h2.data_to_send()


CONVERSATION = conversation()


@given(st.lists(st.integers(1, len(CONVERSATION) - 1), max_size=40))
def test_any_split_of_a_conversation_gives_the_same_messages(cuts: list[int]) -> None:
    async def scenario() -> None:
        connection, transport, _ = in_memory()
        edges = [0, *sorted(set(cuts)), len(CONVERSATION)]
        for start, end in itertools.pairwise(edges):
            connection.data_received(CONVERSATION[start:end])
        client = FrameClient({4: 1 << 20})
        for path in (POUR, CHAT):
            client.begin(path)
        client.h2.data_to_send()
        while not (client.answers[1].closed and client.answers[3].closed):
            client.receive(b"".join(transport.writes))
            transport.writes.clear()
            await asyncio.sleep(0)
        assert client.answers[1].data == prefixed(bytes(7000)) * 3
        assert client.answers[3].data == b"".join(map(prefixed, (b"", b"abc", bytes(20_000), b"d")))
        connection.connection_lost(None)

    asyncio.run(scenario())
