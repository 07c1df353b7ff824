"""gRPC over HTTP/2, as a server (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/statuscodes.md)."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import overload

from pyserving.api.exchange import Peer, RpcContext, RpcGuard, RpcHandler, RpcRefused, StreamHandler
from pyserving.core.errors import Code, ServingError
from pyserving.transport.grpc_call import Call, StreamingCall, UnaryCall
from pyserving.transport.grpc_codec import ENCODINGS, MAX_LENGTH, WINDOW_BITS, as_text, encode_message, parse_timeout
from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.http2 import Headers, Http2Connection, Stream, StreamEvents
from pyserving.transport.listener import Connections
from pyserving.transport.request_memory import RequestMemory

_NO_STREAMS: Mapping[str, StreamHandler] = {}


class GrpcConnection(Http2Connection):
    """One connection of a gRPC client; methods by full name: ``/package.Service/Method``."""

    def __init__(
        self,
        connections: Connections,
        methods: Mapping[str, RpcHandler],
        limits: GrpcLimits | None = None,
        streaming: Mapping[str, StreamHandler] = _NO_STREAMS,
        guard_for: Callable[[Peer], RpcGuard | None] | None = None,
        memory: RequestMemory | None = None,
        refused: RpcRefused | None = None,
    ) -> None:
        """``methods`` are the unary ones, ``streaming`` all others. ``guard_for`` is asked once who may do what.

        ``memory``: that of all connections' requests.
        """
        self.limits = limits or GrpcLimits()
        receive = self.limits.max_receive_message
        self.max_receive = MAX_LENGTH if receive < 0 else receive
        self.max_gzip_ratio = self.limits.max_gzip_ratio
        self.gzip_ratio_from = self.limits.gzip_ratio_from
        self.max_send = MAX_LENGTH if self.limits.max_send_message < 0 else self.limits.max_send_message
        super().__init__(connections, self.limits)
        self._methods = methods
        self._streaming = streaming
        self._guard_for = guard_for
        self._guard: RpcGuard | None = None
        self._peer_address: Peer = None
        self._memory = memory
        self._tell_refused = refused
        self._held = 0
        self._waiting: dict[Call, UnaryCall] = {}  # to start, in the order of their arrival
        self._blocked: dict[Call, StreamingCall] = {}  # until their streams take more

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peer_address = transport.get_extra_info("peername")
        if self._guard_for is not None:
            self._guard = self._guard_for(self._peer_address)
        super().connection_made(transport)
        self._call_later(self.limits.body_timeout, self._check_bodies)

    def request_received(self, stream: Stream, headers: Headers, end: bool) -> StreamEvents:
        fields = dict(headers)
        content_type = fields.get(b"content-type", b"")
        head = _HEADS.get(content_type)
        if head is None:
            head = _head(content_type)
            if head is None:
                text = f"Expected content-type application/grpc, got {as_text(content_type)!r}"
                return self._refuse(stream, fields, b"415", text)
        if fields.get(b":method") != b"POST":
            text = f"Expected method POST, got {as_text(fields.get(b':method', b''))!r}"
            return self._refuse(stream, fields, b"405", text)
        path = as_text(fields.get(b":path", b""))
        handler = self._methods.get(path)
        if handler is not None:
            call: Call = UnaryCall(self, stream, head, fields, handler)
        else:
            stream_handler = self._streaming.get(path)
            if stream_handler is None:
                call = Call(self, stream, head, fields)
                call.fail(ServingError(Code.UNIMPLEMENTED, f"Unknown method {path}"))
                return call
            call = StreamingCall(self, stream, head, fields, stream_handler)
        try:
            caller = None if self._guard is None else self._guard(path, fields)
            encoding = fields.get(b"grpc-encoding", b"identity")
            if encoding not in WINDOW_BITS:
                raise ServingError(
                    Code.UNIMPLEMENTED,
                    f"Message encoding {as_text(encoding)!r} is not supported, only {as_text(ENCODINGS)}",
                )
            timeout = fields.get(b"grpc-timeout")
            deadline = None if timeout is None else time.monotonic() + parse_timeout(timeout)
            context = RpcContext(deadline, _Metadata(headers))
            context.peer = self._peer_address
            if b"x-priority" in fields:
                context.priority = as_text(fields[b"x-priority"])
            if caller is not None:
                context.caller = caller
            call.begin(context, end)
        except ServingError as error:
            call.fail(error)
        return call

    def output_taken(self) -> None:
        if self._blocked:
            for resumed in [call for call in self._blocked.values() if call.can_send]:
                del self._blocked[resumed]
                resumed.resume()
        while self._waiting and not self.output_full:
            self._waiting.pop(next(iter(self._waiting))).start()

    def _check_bodies(self) -> None:
        """Cuts off the calls of which nothing came since the last look. Looked at rarely, for it looks at all of them;
        those that stream may be as slow as they like."""
        self._call_later(self.limits.body_timeout, self._check_bodies)
        for stream in list(self._streams.values()):
            if not stream.ended and isinstance(call := stream.events, UnaryCall) and call.is_stuck():
                call.fail(ServingError(Code.DEADLINE_EXCEEDED, "Expected the rest of the message, got nothing"))

    def _refuse(self, stream: Stream, fields: Mapping[bytes, bytes], status: bytes, text: str) -> StreamEvents:
        """Not gRPC: an HTTP status, for whoever reads that."""
        self.refused(fields, ServingError(Code.INTERNAL, text))
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

    # CallOwner

    def refused(self, fields: Mapping[bytes, bytes], error: ServingError) -> None:
        if self._tell_refused is not None:
            self._tell_refused(fields, self._peer_address, error)

    def hold(self, size: int) -> None:
        limit = self.limits.max_held_requests
        if self._held and self._held + size > limit:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"The requests in flight on this connection exceed max ({self._held + size} vs. {limit})",
            )
        if self._memory is not None:
            self._memory.hold(size)
        self._held += size

    def release(self, size: int) -> None:
        if self._memory is not None:
            self._memory.release(size)
        self._held -= size

    def ended(self, call: Call, held: int) -> None:
        if held:
            self.release(held)
        if self._waiting:
            self._waiting.pop(call, None)
        if self._blocked:
            self._blocked.pop(call, None)

    def start_when_possible(self, call: UnaryCall) -> None:
        if self._waiting or self.output_full:
            self._waiting[call] = call
            call.arm_deadline()
        else:
            call.start()

    def resume_when_possible(self, call: StreamingCall) -> None:
        self._blocked[call] = call


class _Metadata(Sequence[tuple[str, str]]):
    """The headers that are none of HTTP's or gRPC's own; read when looked at, as most methods never do."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def __len__(self) -> int:
        return len(self._pairs())

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[str, str]]: ...

    def __getitem__(self, index: int | slice) -> tuple[str, str] | Sequence[tuple[str, str]]:
        return self._pairs()[index]

    def _pairs(self) -> list[tuple[str, str]]:
        return [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._headers
            if name not in _NOT_METADATA and not name.startswith((b"grpc-", b":"))
        ]


class _Refused(StreamEvents):
    """What still comes for a request that was answered at its headers."""

    __slots__ = ()

    def data_received(self, data: bytes, end: bool) -> None:
        pass

    def closed(self) -> None:
        pass


def _head(content_type: bytes) -> Headers | None:
    """The headers of an answer to a request of this type; None where it is not gRPC."""
    main = content_type.partition(b";")[0].strip().lower()
    if main not in (b"application/grpc", b"application/grpc+proto"):
        return None
    return ((b":status", b"200"), (b"content-type", main))


_HEADS = {name: _head(name) for name in (b"application/grpc", b"application/grpc+proto")}
_NOT_METADATA = frozenset((b"content-type", b"te"))
_REFUSED = _Refused()
