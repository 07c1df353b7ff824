"""HTTP/2 by hand: frames as bytes, and a peer that sends any of them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

from grpc_serving import WAIT, Server, prefixed

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, END_HEADERS, PADDED, ACK = 1, 4, 8, 1


class Type(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Error(IntEnum):
    """RFC 9113, 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


@dataclass
class Frame:
    type: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def setting(identifier: int, value: int) -> bytes:
    return identifier.to_bytes(2, "big") + value.to_bytes(4, "big")


def field(name: bytes, value: bytes) -> bytes:
    """A header as HPACK's literal without indexing and without Huffman codes; both below 127 bytes."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


GOOD = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": b"/test.Test/Echo",
    b":authority": b"test",
    b"content-type": b"application/grpc",
    b"te": b"trailers",
}


def block(*extra: tuple[bytes, bytes], **but: bytes | None) -> bytes:
    """The header block of a good request, and then ``extra``; ``but`` changes fields by names without colon, or leaves
    out those that are None."""
    fields = [(name, but.get(name.lstrip(b":").decode(), value)) for name, value in GOOD.items()]
    return b"".join(field(name, value) for name, value in (*fields, *extra) if value is not None)


def headers(stream: int, fields: bytes | None = None, *, flags: int = END_HEADERS) -> bytes:
    return frame(Type.HEADERS, block() if fields is None else fields, flags=flags, stream=stream)


def data(stream: int, body: bytes, *, flags: int = END_STREAM) -> bytes:
    return frame(Type.DATA, body, flags=flags, stream=stream)


def request(stream: int, message: bytes = b"x") -> bytes:
    return headers(stream) + data(stream, prefixed(message))


class Peer:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> Frame | None:
        """The next frame; None at the end."""
        while len(self._received) < 9 or len(self._received) < 9 + int.from_bytes(self._received[:3], "big"):
            try:
                piece = self._socket.recv(1 << 16)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return None
            self._received += piece
        end = 9 + int.from_bytes(self._received[:3], "big")
        head, payload = self._received[:9], self._received[9:end]
        self._received = self._received[end:]
        return Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)

    def until(self, kind: int, stream: int = 0, flags: int = 0) -> Frame:
        """The next frame of this kind, on this stream, with these flags."""
        while (got := self.receive()) is not None:
            if (got.type, got.stream) == (kind, stream) and got.flags & flags == flags:
                return got
            assert got.type != Type.GOAWAY, got
        raise AssertionError("the server closed")

    def until_answered(self, stream: int) -> None:
        self.until(Type.HEADERS, stream, END_STREAM)

    def until_reset(self, stream: int) -> Error:
        return Error(int.from_bytes(self.until(Type.RST_STREAM, stream).payload, "big"))

    def until_closed(self) -> Error | None:
        """The error that the server gave before it closed."""
        error = None
        while (got := self.receive()) is not None:
            if got.type == Type.GOAWAY:
                assert error is None
                error = Error(int.from_bytes(got.payload[4:8], "big"))
        return error


@contextmanager
def raw(server: Server, settings: bytes = b"", *, preface: bytes = PREFACE) -> Iterator[Peer]:
    """A peer that has sent its preface."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(sock)
        peer.send(preface + (frame(Type.SETTINGS, settings) if preface == PREFACE else b""))
        yield peer
