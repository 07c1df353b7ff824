"""What a peer must not do, by the sections of RFC 9113 (HTTP/2) and RFC 7541 (HPACK), and what the server answers."""

import asyncio
from collections.abc import Iterable, Iterator

import pytest
from grpc_memory import in_memory
from grpc_serving import Server, prefixed
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_http2 import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    Error,
    Type,
    block,
    data,
    field,
    frame,
    headers,
    raw,
    request,
    setting,
)

from pyserving.transport.grpc_limits import GrpcLimits

MAX_HEADER_LIST = 16 * 1024
LIMITS = GrpcLimits(
    stream_window=70_000, connection_window=100_000, max_header_list=MAX_HEADER_LIST, max_concurrent_streams=5
)
WAITING = headers(1, block(path=b"/test.Test/Wait"))
"""A request that is not answered yet."""
STREAMING = headers(1, block(path=b"/test.Test/Chat"))
"""A streaming call, answered with each message."""
PING = frame(Type.PING, b"12345678")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(LIMITS) as running:
        yield running


def window_update(increment: int, stream: int = 0) -> bytes:
    return frame(Type.WINDOW_UPDATE, increment.to_bytes(4, "big"), stream=stream)


def integer(value: int, bits: int, high: int = 0) -> bytes:
    """HPACK's integers (RFC 7541, 5.1), below the bits ``high``."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([high | value])
    out = bytearray([high | most])
    value -= most
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    return bytes([*out, value])


CONNECTION_ERRORS = {
    "3.4 no SETTINGS after the preface": (None, Error.PROTOCOL_ERROR),
    "4.2 a DATA frame too large": (headers(1) + data(1, bytes(16385)), Error.FRAME_SIZE_ERROR),
    "4.2 a HEADERS frame too large": (headers(1, bytes(16385)), Error.FRAME_SIZE_ERROR),
    "4.3 another stream inside a header block": (headers(1, flags=0) + headers(3), Error.PROTOCOL_ERROR),
    "4.3 DATA inside a header block": (headers(1, flags=0) + data(1, b"x"), Error.PROTOCOL_ERROR),
    "4.3 an unknown frame inside a header block": (headers(1, flags=0) + frame(0x77), Error.PROTOCOL_ERROR),
    "5.1 DATA on an idle stream": (data(1, b"x"), Error.PROTOCOL_ERROR),
    "5.1 RST_STREAM on an idle stream": (frame(Type.RST_STREAM, bytes(4), stream=1), Error.PROTOCOL_ERROR),
    "5.1 WINDOW_UPDATE on an idle stream": (window_update(1, stream=1), Error.PROTOCOL_ERROR),
    "5.1 CONTINUATION on an idle stream": (frame(Type.CONTINUATION, stream=1), Error.PROTOCOL_ERROR),
    "5.1 DATA after the end": (WAITING + data(1, prefixed(b"x")) + data(1, b"x"), Error.STREAM_CLOSED),
    "5.1 HEADERS after the end": (WAITING + data(1, prefixed(b"x")) + headers(1), Error.STREAM_CLOSED),
    "5.1.1 an even stream": (headers(2), Error.PROTOCOL_ERROR),
    "6.1 DATA on stream 0": (data(0, b"x"), Error.PROTOCOL_ERROR),
    "6.1 more padding than payload": (headers(1) + data(1, b"\x05abcd", flags=PADDED), Error.PROTOCOL_ERROR),
    "6.2 HEADERS on stream 0": (headers(0), Error.PROTOCOL_ERROR),
    "6.2 more padding than header block": (
        headers(1, b"\xff" + block(), flags=END_HEADERS | PADDED),
        Error.PROTOCOL_ERROR,
    ),
    "6.3 PRIORITY of 4 bytes": (frame(Type.PRIORITY, bytes(4), stream=1), Error.FRAME_SIZE_ERROR),
    "6.4 RST_STREAM on stream 0": (frame(Type.RST_STREAM, bytes(4)), Error.PROTOCOL_ERROR),
    "6.4 RST_STREAM of 3 bytes": (headers(1) + frame(Type.RST_STREAM, bytes(3), stream=1), Error.FRAME_SIZE_ERROR),
    "6.5 SETTINGS of 5 bytes": (frame(Type.SETTINGS, bytes(5)), Error.FRAME_SIZE_ERROR),
    "6.5 SETTINGS acknowledged with content": (
        frame(Type.SETTINGS, setting(3, 1), flags=ACK),
        Error.FRAME_SIZE_ERROR,
    ),
    "6.5 SETTINGS on a stream": (frame(Type.SETTINGS, stream=1), Error.PROTOCOL_ERROR),
    "6.5.2 ENABLE_PUSH of 2": (frame(Type.SETTINGS, setting(2, 2)), Error.PROTOCOL_ERROR),
    "6.5.2 INITIAL_WINDOW_SIZE of 2 GiB": (frame(Type.SETTINGS, setting(4, 1 << 31)), Error.FLOW_CONTROL_ERROR),
    "6.5.2 MAX_FRAME_SIZE below 16 KiB": (frame(Type.SETTINGS, setting(5, 16383)), Error.PROTOCOL_ERROR),
    "6.5.2 MAX_FRAME_SIZE of 16 MiB": (frame(Type.SETTINGS, setting(5, 1 << 24)), Error.PROTOCOL_ERROR),
    "6.6 PUSH_PROMISE of a client": (
        headers(1) + frame(Type.PUSH_PROMISE, bytes([0, 0, 0, 2]) + block(), flags=END_HEADERS, stream=1),
        Error.PROTOCOL_ERROR,
    ),
    "6.7 PING on a stream": (frame(Type.PING, bytes(8), stream=1), Error.PROTOCOL_ERROR),
    "6.7 PING of 7 bytes": (frame(Type.PING, bytes(7)), Error.FRAME_SIZE_ERROR),
    "6.8 GOAWAY on a stream": (frame(Type.GOAWAY, bytes(8), stream=1), Error.PROTOCOL_ERROR),
    "6.8 GOAWAY of 7 bytes": (frame(Type.GOAWAY, bytes(7)), Error.FRAME_SIZE_ERROR),
    "6.9 WINDOW_UPDATE of 0": (window_update(0), Error.PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE of 0 on a stream": (WAITING + window_update(0, stream=1), Error.PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE of 3 bytes": (frame(Type.WINDOW_UPDATE, bytes(3)), Error.FRAME_SIZE_ERROR),
    "6.9.1 a window over 2 GiB": (window_update((1 << 31) - 1), Error.FLOW_CONTROL_ERROR),
    "6.9.1 a stream's window over 2 GiB": (
        WAITING + window_update((1 << 31) - 1, stream=1),
        Error.FLOW_CONTROL_ERROR,
    ),
    "6.9.2 a stream's window over 2 GiB by SETTINGS": (
        WAITING + window_update(0x7FFF0000, stream=1) + frame(Type.SETTINGS, setting(4, (1 << 31) - 1)),
        Error.FLOW_CONTROL_ERROR,
    ),
    "6.9.1 more than a stream's window": (
        headers(1, block(path=b"/test.Test/Sip")) + data(1, bytes(10_000), flags=0) * 8,
        Error.FLOW_CONTROL_ERROR,
    ),
    "6.9.1 more than the connection's window": (
        b"".join(headers(n, block(path=b"/test.Test/Sip")) + data(n, bytes(15_000), flags=0) * 4 for n in (1, 3)),
        Error.FLOW_CONTROL_ERROR,
    ),
    "6.10 CONTINUATION after the end of headers": (
        headers(1) + frame(Type.CONTINUATION, field(b"a", b"b"), flags=END_HEADERS, stream=1),
        Error.PROTOCOL_ERROR,
    ),
    "7541 2.3.3 index 0": (headers(1, b"\x80"), Error.COMPRESSION_ERROR),
    "7541 2.3.3 an index that there is not": (headers(1, integer(1000, 7, 0x80)), Error.COMPRESSION_ERROR),
    "7541 5.1 an integer without end": (headers(1, b"\xff" * 20), Error.COMPRESSION_ERROR),
    "7541 5.2 a string cut off": (headers(1, b"\x00\x05ab"), Error.COMPRESSION_ERROR),
    "7541 5.2 the end of string among Huffman codes": (
        headers(1, b"\x00\x84\xff\xff\xff\xff\x01a"),
        Error.COMPRESSION_ERROR,
    ),
    "7541 5.2 Huffman padding of more than 7 bits": (headers(1, b"\x00\x82\x1f\xff\x01a"), Error.COMPRESSION_ERROR),
    "7541 6.3 a table larger than allowed": (headers(1, integer(1 << 20, 5, 0x20) + block()), Error.COMPRESSION_ERROR),
}


@pytest.mark.parametrize("case", CONNECTION_ERRORS)
def test_what_ends_the_connection(server: Server, case: str) -> None:
    frames, error = CONNECTION_ERRORS[case]
    with raw(server, preface=PREFACE if frames else PREFACE + PING) as peer, raw(server) as other:
        peer.send(frames or b"")
        assert peer.until_closed() is error
        other.send(request(1))
        other.until_answered(1)


@pytest.mark.parametrize("preface", [PREFACE[:-1] + b"X", b"\0" * 24, PREFACE[:16] * 2])
def test_3_4_a_bad_preface(server: Server, preface: bytes) -> None:
    with raw(server, preface=preface) as peer:
        assert peer.until_closed() is Error.PROTOCOL_ERROR


MALFORMED = {
    "8.1 trailers that do not end": STREAMING + headers(1, field(b"a", b"b")),
    "8.1 pseudo-headers in trailers": STREAMING + headers(1, field(b":path", b"/"), flags=END_HEADERS | END_STREAM),
    "8.1.1 less than content-length": headers(1, block((b"content-length", b"7"))) + data(1, prefixed(b"x")),
    "8.1.1 more than content-length": headers(1, block((b"content-length", b"5"))) + data(1, prefixed(b"x")),
    "8.2.1 an upper-case name": headers(1, block((b"X-A", b"1"))),
    "8.2.1 a line break in a value": headers(1, block((b"x-a", b"1\r\nx-b: 2"))),
    "8.2.1 a zero in a name": headers(1, block((b"x\0", b"1"))),
    "8.2.1 an empty name": headers(1, block((b"", b"1"))),
    "8.2.2 connection": headers(1, block((b"connection", b"keep-alive"))),
    "8.2.2 transfer-encoding": headers(1, block((b"transfer-encoding", b"chunked"))),
    "8.2.2 te that is not trailers": headers(1, block(te=b"gzip")),
    "8.3 a pseudo-header after others": headers(1, field(b"te", b"trailers") + block(te=None)),
    "8.3 an unknown pseudo-header": headers(1, field(b":x", b"1") + block()),
    "8.3 a response's pseudo-header": headers(1, field(b":status", b"200") + block()),
    "8.3.1 no :method": headers(1, block(method=None)),
    "8.3.1 no :scheme": headers(1, block(scheme=None)),
    "8.3.1 no :path": headers(1, block(path=None)),
    "8.3.1 an empty :path": headers(1, block(path=b"")),
    "8.3.1 two of :path": headers(1, field(b":path", b"/") + block()),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_ends_its_stream_only(server: Server, case: str) -> None:
    with raw(server) as peer:
        peer.send(MALFORMED[case])
        assert peer.until_reset(1) is Error.PROTOCOL_ERROR
        peer.send(request(101))
        peer.until_answered(101)


IGNORED = {
    "4.1 an unknown frame": frame(0x77, b"abc", flags=0xFF, stream=1),
    "4.1 the reserved bit": PING[:5] + b"\x80\0\0\0" + PING[9:],
    "5.3 PRIORITY, deprecated": frame(Type.PRIORITY, bytes([0, 0, 0, 3, 1]), stream=1),
    "6.5.2 an unknown setting": frame(Type.SETTINGS, setting(0x99, 1)),
    "6.5.2 a setting many times": frame(Type.SETTINGS, setting(4, 0) * 10 + setting(4, 70_000)),
    "6.7 an answer to no PING": frame(Type.PING, bytes(8), flags=ACK),
    "6.9 WINDOW_UPDATE on a stream that is over": request(1) + window_update(100, stream=1),
    "5.1 RST_STREAM on a stream that is over": request(1) + frame(Type.RST_STREAM, bytes(4), stream=1),
}


@pytest.mark.parametrize("case", IGNORED)
def test_what_is_no_fault(server: Server, case: str) -> None:
    with raw(server) as peer:
        peer.send(IGNORED[case] + request(101))
        peer.until_answered(101)


def test_5_1_1_a_stream_below_an_earlier_one_is_not_served(server: Server) -> None:
    runs = server.methods.runs
    with raw(server) as peer:
        peer.send(request(5) + request(3) + request(7))
        peer.until_answered(7)
    assert server.methods.runs == runs + 2


def test_5_1_2_streams_beyond_the_limit(server: Server) -> None:
    """Refused, and a breach of the protocol from a peer that has acknowledged the limit."""
    with raw(server) as peer:
        assert setting(3, 5) in peer.until(Type.SETTINGS).payload
        for stream in range(1, 13, 2):
            peer.send(headers(stream, block(path=b"/test.Test/Settle")))
        assert peer.until_reset(11) is Error.REFUSED_STREAM
        peer.send(frame(Type.SETTINGS, flags=ACK) + headers(13))
        assert peer.until_closed() is Error.PROTOCOL_ERROR


def test_6_5_3_settings_are_acknowledged_and_hold(server: Server) -> None:
    with raw(server, setting(4, 10)) as peer:
        peer.until(Type.SETTINGS, flags=ACK)
        peer.send(request(1, bytes(100)))
        assert len(peer.until(Type.DATA, 1).payload) == 10
        peer.send(frame(Type.SETTINGS, setting(4, 30)))
        assert len(peer.until(Type.DATA, 1).payload) == 20
        peer.send(window_update(1000, stream=1))
        assert len(peer.until(Type.DATA, 1).payload) == 75
        peer.until_answered(1)


def test_6_7_a_ping_comes_back(server: Server) -> None:
    with raw(server) as peer:
        peer.send(PING)
        assert peer.until(Type.PING, flags=ACK).payload == b"12345678"


def test_6_10_headers_in_pieces(server: Server) -> None:
    fields = block((b"x-a", b"1"))
    with raw(server) as peer:
        peer.send(headers(1, fields[:10], flags=0))
        peer.send(frame(Type.CONTINUATION, fields[10:50], stream=1) + frame(Type.CONTINUATION, b"", stream=1))
        peer.send(frame(Type.CONTINUATION, fields[50:], flags=END_HEADERS, stream=1) + data(1, prefixed(b"x")))
        peer.until_answered(1)
    assert ("x-a", "1") in server.methods.contexts[-1].metadata


# Floods: a peer that asks for more work than it does


def hpack_bomb() -> Iterable[bytes]:
    """One large header is put into the table, then named again and again, a byte each."""
    name, value = b"x-a", bytes(3900)
    large = b"\x40" + integer(len(name), 7) + name + integer(len(value), 7) + value.replace(b"\0", b"a")
    yield headers(1, block() + large) + data(1, prefixed(b"x"))
    yield headers(3, block() + b"\xbe" * 10_000)


FLOODS = {
    "CONTINUATION": lambda: (headers(1, flags=0) + frame(Type.CONTINUATION, stream=1) * 1000,),
    "HPACK": hpack_bomb,
    "SETTINGS": lambda: (frame(Type.SETTINGS, setting(3, 100)) * 1000 for _ in range(1000)),
    "PING": lambda: (PING * 1000 for _ in range(5000)),
    "DATA without content": lambda: (headers(1), *(data(1, b"", flags=0) * 1000 for _ in range(100))),
    "RST_STREAM": lambda: (
        headers(stream, block(path=b"/test.Test/Settle")) + frame(Type.RST_STREAM, bytes(4), stream=stream)
        for stream in range(1, 50_000, 2)
    ),
    "requests that make the server reset them": lambda: (
        headers(stream, block(path=b"/test.Test/Settle")) + headers(stream, field(b"a", b"b"))
        for stream in range(1, 100_000, 2)
    ),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_the_connection(server: Server, flood: str) -> None:
    with raw(server) as peer:
        for piece in FLOODS[flood]():
            try:
                peer.send(piece)
            except (ConnectionResetError, BrokenPipeError):
                break  # the server is through with it before all was sent
        # Where much was on its way when the server closed, its last words are lost with the connection.
        assert peer.until_closed() in (Error.ENHANCE_YOUR_CALM, None)
    with raw(server) as other:
        other.send(request(1))
        other.until_answered(1)


# Any frames at all


PATHS = st.sampled_from([b"/test.Test/Echo", b"/test.Test/Chat", b"/test.Test/Settle", b"/test.Test/Pour", b"/none"])
STREAMS = st.integers(0, 9)
FLAGS = st.sampled_from([0, END_STREAM, END_HEADERS, END_STREAM | END_HEADERS, PADDED, 0xFF])
BODIES = st.one_of(st.binary(max_size=30), st.sampled_from([prefixed(b"3 10"), prefixed(b"x"), prefixed(b".")]))
FRAMES = st.one_of(
    st.builds(lambda n, path, flags: headers(n, block(path=path), flags=flags), STREAMS, PATHS, FLAGS),
    st.builds(lambda n, path: headers(2 * n + 1, block(path=path)), st.integers(0, 9), PATHS),
    st.builds(lambda n, body, flags: data(n, body, flags=flags), STREAMS, BODIES, FLAGS),
    st.builds(
        lambda n, change: frame(Type.WINDOW_UPDATE, change.to_bytes(4, "big"), stream=n),
        STREAMS,
        st.sampled_from([0, 1, 1000, (1 << 31) - 1]),
    ),
    st.builds(lambda n: frame(Type.RST_STREAM, bytes(4), stream=n), STREAMS),
    st.builds(lambda value: frame(Type.SETTINGS, setting(4, value)), st.sampled_from([0, 10, 70_000])),
    st.builds(
        lambda kind, body, flags, n: frame(kind, body, flags=flags, stream=n),
        st.integers(0, 12),
        st.binary(max_size=20),
        FLAGS,
        STREAMS,
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(FRAMES, max_size=6), max_size=8), st.booleans())
def test_no_frames_make_an_exception_escape(reads: list[list[bytes]], drained: bool) -> None:
    async def scenario() -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        connection, transport, _ = in_memory(LIMITS)
        connection.data_received(PREFACE + frame(Type.SETTINGS))
        for number, frames in enumerate(reads):
            connection.data_received(b"".join(frames))
            if drained and number == 3:
                connection.drain()
            await asyncio.sleep(0)
            if transport.is_closing():
                break
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert failures == []

    asyncio.run(scenario())
