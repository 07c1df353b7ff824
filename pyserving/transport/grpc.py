"""gRPC over HTTP/2: unary calls, as a server (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/statuscodes.md)."""

import asyncio
import logging
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyserving.api.exchange import RpcContext, RpcHandler
from pyserving.core.errors import Code, ServingError
from pyserving.transport.eager import EagerTask
from pyserving.transport.http2 import Headers, Http2Connection, Http2Limits, Stream, StreamEvents
from pyserving.transport.listener import Connections

logger = logging.getLogger("pyserving.transport")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimits(Http2Limits):
    """Sizes in bytes."""

    max_receive_message: int = 512 * 1024 * 1024
    """Of one request message, as sent and decompressed; -1: none."""
    max_held_requests: int = 1024 * 1024 * 1024
    """Of all requests of a connection that were announced and not yet answered; one alone is always let in."""


class GrpcConnection(Http2Connection):
    """One connection of a gRPC client; ``methods`` by full name: ``/package.Service/Method``."""

    def __init__(
        self, connections: Connections, methods: Mapping[str, RpcHandler], limits: GrpcLimits | None = None
    ) -> None:
        self.limits = limits or GrpcLimits()
        super().__init__(connections, self.limits)
        self._methods = methods
        self._held = 0
        self._waiting: dict[_UnaryCall, None] = {}  # in the order of their arrival

    def request_received(self, stream: Stream, headers: Headers, end: bool) -> StreamEvents:
        fields = dict(headers)
        content_type = fields.get(b"content-type", b"")
        head = _HEADS.get(content_type)
        if head is None:
            head = _head(content_type)
            if head is None:
                return _refuse(stream, b"415", f"Expected content-type application/grpc, got {_text(content_type)!r}")
        if fields.get(b":method") != b"POST":
            return _refuse(stream, b"405", f"Expected method POST, got {_text(fields.get(b':method', b''))!r}")
        call = _UnaryCall(self, stream, head)
        try:
            path = _text(fields.get(b":path", b""))
            handler = self._methods.get(path)
            if handler is None:
                raise ServingError(Code.UNIMPLEMENTED, f"Unknown method {path}")
            encoding = fields.get(b"grpc-encoding", b"identity")
            if encoding not in _WINDOW_BITS:
                raise ServingError(
                    Code.UNIMPLEMENTED,
                    f"Message encoding {_text(encoding)!r} is not supported, only {_text(_ACCEPT_ENCODING)}",
                )
            timeout = fields.get(b"grpc-timeout")
            call.accept(
                handler,
                encoding,
                None if timeout is None else time.monotonic() + parse_timeout(timeout),
                [
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in headers
                    if name not in _NOT_METADATA and not name.startswith((b"grpc-", b":"))
                ],
            )
            if end:
                raise _no_message()
        except ServingError as error:
            call.fail(error)
        return call

    def output_taken(self) -> None:
        while self._waiting and not self.output_full:
            call = next(iter(self._waiting))
            del self._waiting[call]
            call.start()

    def hold(self, size: int) -> None:
        """Takes a request's announced size into account. Raises ServingError (RESOURCE_EXHAUSTED)."""
        limit = self.limits.max_held_requests
        if self._held and self._held + size > limit:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"The requests in flight on this connection exceed max ({self._held + size} vs. {limit})",
            )
        self._held += size

    def ended(self, call: "_UnaryCall", held: int) -> None:
        """A call was answered or is gone; ``held``: what it made the connection hold."""
        self._held -= held
        if self._waiting:
            self._waiting.pop(call, None)

    def start_when_possible(self, call: "_UnaryCall") -> None:
        """Starts a call, unless the client leaves so many answers unread that this one has to wait."""
        if self._waiting or self.output_full:
            self._waiting[call] = None
            call.arm_deadline()
        else:
            call.start()


class MessageReader:
    """Cuts the bytes of a stream, in whatever pieces they come, into messages.

    ``admit(length)`` is called for each message announced, before its bytes are kept; it may raise ServingError.
    """

    __slots__ = ("_admit", "_compressed", "_missing", "_pieces", "_prefix")

    def __init__(self, admit: Callable[[int], None]) -> None:
        self._admit = admit
        self._prefix = b""
        self._compressed = False
        self._missing = -1  # -1: still in the prefix
        self._pieces: list[memoryview] = []

    @property
    def inside(self) -> bool:
        """Whether a message was begun and not ended."""
        return self._missing >= 0 or bool(self._prefix)

    def feed(self, data: bytes) -> list[tuple[bytes, bool]]:
        """The messages that ``data`` completes, each with whether it is compressed. Raises ServingError."""
        messages: list[tuple[bytes, bool]] = []
        view = memoryview(data)
        while True:
            if self._missing < 0:
                wanted = _PREFIX - len(self._prefix)
                self._prefix += bytes(view[:wanted])
                view = view[wanted:]
                if len(self._prefix) < _PREFIX:
                    return messages
                if self._prefix[0] > 1:
                    raise ServingError(Code.INTERNAL, f"Expected message flag 0 or 1, got {self._prefix[0]}")
                self._compressed = self._prefix[0] == 1
                length = int.from_bytes(self._prefix[1:], "big")
                self._admit(length)
                self._prefix = b""
                self._missing = length
            piece = view[: self._missing]
            if piece:
                self._pieces.append(piece)
                self._missing -= len(piece)
                view = view[len(piece) :]
            if self._missing:
                return messages
            messages.append((b"".join(self._pieces), self._compressed))
            self._pieces = []
            self._missing = -1


class _UnaryCall(StreamEvents):
    """One call: reads the message, runs the handler, answers; or fails at any point before."""

    __slots__ = (
        "_announced",
        "_answered",
        "_connection",
        "_deadline",
        "_encoding",
        "_handler",
        "_head",
        "_held",
        "_message",
        "_metadata",
        "_reader",
        "_stream",
        "_task",
        "_timer",
    )

    def __init__(self, connection: GrpcConnection, stream: Stream, head: Headers) -> None:
        self._connection = connection
        self._stream = stream
        self._head = head
        self._handler: RpcHandler
        self._encoding: bytes
        self._deadline: float | None = None
        self._metadata: list[tuple[str, str]]
        self._reader: MessageReader | None = None
        self._announced = False  # a message has begun
        self._message: tuple[bytes, bool] | None = None
        self._task: EagerTask[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held = 0
        self._answered = False  # or gone

    def accept(
        self, handler: RpcHandler, encoding: bytes, deadline: float | None, metadata: list[tuple[str, str]]
    ) -> None:
        self._handler = handler
        self._encoding = encoding
        self._deadline = deadline
        self._metadata = metadata

    # StreamEvents

    def data_received(self, data: bytes, end: bool) -> None:
        if self._answered:
            return
        try:
            if (
                end
                and self._reader is None
                and data[:1] == b"\0"
                and int.from_bytes(data[1:_PREFIX], "big") == len(data) - _PREFIX
            ):  # most messages come whole
                self._admit(len(data) - _PREFIX)
                self._message = (data[_PREFIX:], False)
            else:
                self._read(data, end)
        except ServingError as error:
            self.fail(error)
            return
        if end:
            self._connection.start_when_possible(self)

    def closed(self) -> None:
        if not self._answered:
            self._end()
            if self._task is not None:
                self._task.cancel()

    # Reading

    def _read(self, data: bytes, end: bool) -> None:
        if self._reader is None:
            self._reader = MessageReader(self._admit)
        for message in self._reader.feed(data):  # one: a second is not admitted
            self._message = message
        if end:
            if self._reader.inside:
                raise ServingError(Code.INTERNAL, "The request ended inside a message")
            if self._message is None:
                raise _no_message()

    def _admit(self, length: int) -> None:
        if self._announced:
            raise ServingError(Code.UNIMPLEMENTED, "Expected one request message, got more")
        self._announced = True
        limit = self._connection.limits.max_receive_message
        if 0 <= limit < length:
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"Received message larger than max ({length} vs. {limit})")
        self._hold(length)

    def _hold(self, size: int) -> None:
        self._connection.hold(size)
        self._held += size

    # Running

    def start(self) -> None:
        """The message is there: runs the handler."""
        assert self._message is not None
        message, compressed = self._message
        self._message = None
        deadline = self._deadline
        if deadline is not None and time.monotonic() >= deadline:
            self._deadline_passed()
            return
        if compressed:
            coroutine = self._decompress_and_run(message)
        else:
            coroutine = self._handler(message, RpcContext(deadline, self._metadata))
        task = EagerTask(coroutine, self._done)
        if not self._answered:
            self._task = task
            self.arm_deadline()

    async def _decompress_and_run(self, data: bytes) -> bytes:
        bits = _WINDOW_BITS[self._encoding]
        if bits is None:
            raise ServingError(Code.INTERNAL, "A message is flagged compressed, but the call has no grpc-encoding")
        limit = self._connection.limits.max_receive_message
        if len(data) > _DECOMPRESS_INLINE:
            message = await asyncio.get_running_loop().run_in_executor(None, decompress, data, bits, limit)
            if self._answered:  # cancelled too late for the thread to be told
                raise asyncio.CancelledError
        else:
            message = decompress(data, bits, limit)
        self._hold(len(message))
        return await self._handler(message, RpcContext(self._deadline, self._metadata))

    def arm_deadline(self) -> None:
        if self._deadline is not None and self._timer is None:
            delay = self._deadline - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(delay, self._deadline_passed)

    def _deadline_passed(self) -> None:
        self.fail(ServingError(Code.DEADLINE_EXCEEDED, "The deadline passed before the answer was ready"))
        if self._task is not None:
            self._task.cancel()

    def _done(self, answer: bytes | None, error: BaseException | None) -> None:
        self._task = None
        if error is None:
            assert answer is not None
            if len(answer) > _MAX_LENGTH:
                error = ServingError(
                    Code.RESOURCE_EXHAUSTED, f"The answer is larger than a gRPC message can be: {len(answer)} bytes"
                )
            elif not self._answered:
                self._answer(answer)
        if error is None:
            return
        if not isinstance(error, ServingError):
            if isinstance(error, asyncio.CancelledError):
                error = ServingError(Code.CANCELLED, "The call was cancelled on the server")
            else:
                logger.error("A gRPC method failed", exc_info=error)
                error = ServingError(Code.INTERNAL, "internal error")
        self.fail(error)

    # Answering

    def _answer(self, answer: bytes) -> None:
        self._end()
        stream = self._stream
        stream.send_headers(self._head)
        prefix = b"\0" + len(answer).to_bytes(4, "big")
        if len(answer) < _JOIN_BELOW:
            stream.send_data(prefix + answer)
        else:
            stream.send_data(prefix)
            stream.send_data(answer)
        stream.send_trailers(_OK)

    def fail(self, error: ServingError) -> None:
        """Answers with a status alone, unless an answer was given."""
        if self._answered:
            return
        self._end()
        headers = [*self._head, (b"grpc-status", b"%d" % error.code)]
        if error.message:
            headers.append((b"grpc-message", encode_message(error.message)))
        if error.code is Code.UNIMPLEMENTED:
            headers.append((b"grpc-accept-encoding", _ACCEPT_ENCODING))
        self._stream.send_headers(headers, end=True)

    def _end(self) -> None:
        self._answered = True
        self._reader = None
        self._message = None
        self._connection.ended(self, self._held)
        self._held = 0
        if self._timer is not None:
            self._timer.cancel()


class _Refused(StreamEvents):
    """What still comes for a request that was answered at its headers."""

    __slots__ = ()

    def data_received(self, data: bytes, end: bool) -> None:
        pass

    def closed(self) -> None:
        pass


def parse_timeout(value: bytes) -> float:
    """Seconds of a grpc-timeout: one to eight digits and a unit. Raises ServingError (INTERNAL)."""
    seconds = _SECONDS.get(value[-1:])
    digits = value[:-1]
    if seconds is None or len(digits) > 8 or not digits.isdigit():
        raise ServingError(Code.INTERNAL, f"Expected a grpc-timeout like 100m, got {_text(value)!r}")
    return int(digits) * seconds


def encode_message(text: str) -> bytes:
    """The value of grpc-message: UTF-8, all but printable ASCII percent-encoded; a text too long for clients is cut."""
    encoded = _percent_encode(text)
    if len(encoded) <= MAX_GRPC_MESSAGE:
        return encoded
    pieces = []
    room = MAX_GRPC_MESSAGE - len(_CUT)
    for character in text:
        piece = _percent_encode(character)
        room -= len(piece)
        if room < 0:
            break
        pieces.append(piece)
    return b"".join(pieces) + _CUT


def decompress(data: bytes, window_bits: int, limit: int) -> bytes:
    """Decompresses a whole gzip or zlib stream, to at most ``limit`` bytes (-1: any). Raises ServingError."""
    inflate = zlib.decompressobj(window_bits)
    try:
        message = inflate.decompress(data, 0 if limit < 0 else limit + 1)
    except zlib.error as error:
        raise ServingError(Code.INTERNAL, f"The message cannot be decompressed: {error}") from error
    if 0 <= limit < len(message):
        raise ServingError(
            Code.RESOURCE_EXHAUSTED, f"Received message larger than max (more than {limit} decompressed vs. {limit})"
        )
    if not inflate.eof or inflate.unused_data:
        raise ServingError(Code.INTERNAL, "The message cannot be decompressed: it is cut off or has bytes too many")
    return message


def _percent_encode(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if raw.isascii() and text.isprintable() and b"%" not in raw:
        return raw
    return b"".join(_PERCENT[byte] for byte in raw)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _head(content_type: bytes) -> Headers | None:
    """The headers of an answer to a request of this type; None where it is not gRPC."""
    main = content_type.partition(b";")[0].strip().lower()
    if main not in (b"application/grpc", b"application/grpc+proto"):
        return None
    return ((b":status", b"200"), (b"content-type", main))


def _refuse(stream: Stream, status: bytes, text: str) -> StreamEvents:
    """Not gRPC: an HTTP status, for whoever reads that."""
    stream.send_headers(
        (
            (b":status", status),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"%d" % Code.INTERNAL),
            (b"grpc-message", encode_message(text)),
        ),
        end=True,
    )
    return _REFUSED


def _no_message() -> ServingError:
    return ServingError(Code.UNIMPLEMENTED, "Expected one request message, got none")


MAX_GRPC_MESSAGE = 7 * 1024
"""Bytes of grpc-message as encoded. grpcio's clients begin to refuse headers at 8 KiB in all."""

_PREFIX = 5
_MAX_LENGTH = 0xFFFFFFFF
_CUT = b"..."
_JOIN_BELOW = 64 * 1024
"""Below, one copy is cheaper than one more call."""
_DECOMPRESS_INLINE = 4 * 1024
"""Compressed bytes, at most a thousand times as many decompressed: more is done on a thread."""
_OK: Headers = ((b"grpc-status", b"0"),)
_HEADS = {name: _head(name) for name in (b"application/grpc", b"application/grpc+proto")}
_NOT_METADATA = frozenset((b"content-type", b"te"))
_ACCEPT_ENCODING = b"identity,deflate,gzip"
_WINDOW_BITS: Mapping[bytes, int | None] = {b"identity": None, b"deflate": 15, b"gzip": 31}
"""zlib's wbits by grpc-encoding; None: not compressed."""
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PERCENT = [bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in range(256)]
_REFUSED = _Refused()
