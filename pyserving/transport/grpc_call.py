"""One gRPC call on one HTTP/2 stream, as a server sees it: unary, or streaming in either or both directions."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from pyserving.api.exchange import RpcContext, RpcHandler, StreamHandler
from pyserving.core.errors import Code, ServingError
from pyserving.transport.eager import EagerTask
from pyserving.transport.grpc_codec import (
    ENCODINGS,
    PREFIX,
    WINDOW_BITS,
    MessageBuffer,
    compress,
    decompress,
    encode_message,
)
from pyserving.transport.http2 import Headers, Stream, StreamEvents

logger = logging.getLogger("pyserving.transport")

_JOIN_BELOW = 64 * 1024
"""Below, one copy is cheaper than one more call."""
_DECOMPRESS_INLINE = 4 * 1024
"""Compressed bytes, at most a thousand times as many decompressed: more is done on a thread."""
_COMPRESS_INLINE = 16 * 1024
_MAX_UNSENT = 16 * 1024
"""Bytes of a stream that may wait for the peer's window or the socket before its handler is made to wait."""
_OK: Headers = ((b"grpc-status", b"0"),)
_NO_CONTEXT = RpcContext(None)


class CallOwner(Protocol):
    """The connection, as its calls see it."""

    max_receive: int
    """Bytes of one message, as sent and decompressed."""
    max_send: int
    """Bytes of one answer before compression."""
    max_gzip_ratio: int
    gzip_ratio_from: int
    """See GrpcLimits."""

    @property
    def output_full(self) -> bool: ...

    def hold(self, size: int) -> None:
        """Takes a request's announced size into account. Raises ServingError (RESOURCE_EXHAUSTED)."""

    def release(self, size: int) -> None:
        """The opposite."""

    def start_when_possible(self, call: "UnaryCall") -> None:
        """Starts a call, unless the client leaves so many answers unread that this one has to wait."""

    def resume_when_possible(self, call: "StreamingCall") -> None:
        """Calls ``call.resume`` once its stream can take more."""

    def refused(self, fields: Mapping[bytes, bytes], error: ServingError) -> None:
        """A call with these headers ends, and its handler was not begun."""

    def ended(self, call: "Call", held: int) -> None:
        """A call was answered or is gone. ``held`` is what it had the connection hold."""


class Call(StreamEvents):
    """What all calls have: a deadline, a status in the end. By itself it is one that can only fail."""

    # Defaults are the class's: most calls change none of them.
    _context = _NO_CONTEXT
    _task: EagerTask[Any] | None = None
    _timer: asyncio.TimerHandle | None = None
    _reply_encoding = b""  # empty: answers are not compressed
    _held = 0
    _ended = False  # answered, or gone
    _handled = False  # the handler has begun

    def __init__(self, owner: CallOwner, stream: Stream, head: Headers, fields: Mapping[bytes, bytes]) -> None:
        """``fields``: the headers of the request, ``head``: those of an answer."""
        self._owner = owner
        self._stream = stream
        self._head = head
        self._fields = fields

    def begin(self, context: RpcContext, end: bool) -> None:
        """The headers were accepted; ``end``: nothing follows them. Raises ServingError."""
        raise NotImplementedError

    # StreamEvents

    def data_received(self, data: bytes, end: bool) -> None:
        """What still comes for a call that failed at its headers."""

    def closed(self) -> None:
        if not self._ended:
            self._end()
            if not self._handled:
                self._owner.refused(self._fields, ServingError(Code.CANCELLED, "The client went away"))
            if self._task is not None:
                self._task.cancel()

    # For the kinds of calls

    def _hold_message(self, size: int) -> None:
        """A message of this size is there or on its way. Raises ServingError if that is too much."""
        limit = self._owner.max_receive
        if size > limit:
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"Received message larger than max ({size} vs. {limit})")
        self._owner.hold(size)
        self._held += size

    async def _decompress(self, data: bytes) -> bytes:
        bits = WINDOW_BITS[self._fields.get(b"grpc-encoding", b"identity")]
        if bits is None:
            raise ServingError(Code.INTERNAL, "A message is flagged compressed, but the call has no grpc-encoding")
        owner = self._owner
        limit = min(owner.max_receive, max(owner.gzip_ratio_from, owner.max_gzip_ratio * len(data)))
        if len(data) > _DECOMPRESS_INLINE:
            message = await asyncio.get_running_loop().run_in_executor(None, decompress, data, bits, limit)
        else:
            message = decompress(data, bits, limit)
        self._hold_message(len(message))
        self._context.compressed = True
        return message

    async def _compress(self, message: bytes) -> bytes:
        """Message with prefix; compressed, unless that makes it larger."""
        bits = WINDOW_BITS[self._reply_encoding]
        assert bits is not None
        if len(message) > _COMPRESS_INLINE:
            compressed = await asyncio.get_running_loop().run_in_executor(None, compress, message, bits)
        else:
            compressed = compress(message, bits)
        if len(compressed) >= len(message):
            return _prefix(message) + message
        return b"\1" + len(compressed).to_bytes(4, "big") + compressed

    def _choose_encoding(self) -> None:
        """The handler asks for compressed answers."""
        names = self._fields.get(b"grpc-accept-encoding", b"").replace(b" ", b"").split(b",")
        self._reply_encoding = next((name for name in (b"gzip", b"deflate") if name in names), b"")

    def _too_large(self, answer: bytes) -> ServingError:
        limit = self._owner.max_send
        return ServingError(Code.RESOURCE_EXHAUSTED, f"Sent message larger than max ({len(answer)} vs. {limit})")

    def _send_headers(self) -> None:
        """The headers of an answer that is no failure, at least not yet."""
        context = self._context
        head = self._head
        if self._reply_encoding:
            head = [*head, (b"grpc-encoding", self._reply_encoding)]
        if context.initial_metadata:
            head = [*head, *_encoded(context.initial_metadata)]
        self._stream.send_headers(head)

    def _send_message(self, answer: bytes) -> None:
        if len(answer) < _JOIN_BELOW:
            self._stream.send_data(_prefix(answer) + answer)
        else:
            self._stream.send_data(_prefix(answer))
            self._stream.send_data(answer)

    def _send_ok(self) -> None:
        metadata = self._context.trailing_metadata
        self._stream.send_trailers([*_OK, *_encoded(metadata)] if metadata else _OK)

    def _send_failure(self, status: Headers) -> None:
        self._stream.send_headers([*self._head, *status], end=True)

    # Deadline and end

    def arm_deadline(self) -> None:
        if self._context.deadline is not None and self._timer is None:
            delay = self._context.deadline - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(delay, self._deadline_passed)

    def _deadline_passed(self) -> None:
        self.fail(ServingError(Code.DEADLINE_EXCEEDED, "The deadline passed before the answer was ready"))
        if self._task is not None:
            self._task.cancel()

    def _fail_by(self, error: BaseException) -> None:
        """``error`` escaped from the handler."""
        if not isinstance(error, ServingError):
            if isinstance(error, asyncio.CancelledError):
                error = ServingError(Code.CANCELLED, "The call was cancelled on the server")
            else:
                logger.error("A gRPC method failed", exc_info=error)
                error = ServingError(Code.INTERNAL, "internal error")
        self.fail(error)

    def fail(self, error: ServingError) -> None:
        """Ends the call with a status, unless it has ended."""
        if self._ended:
            return
        self._end()
        if not self._handled:
            self._owner.refused(self._fields, error)
        status = [(b"grpc-status", b"%d" % error.code)]
        if error.message:
            status.append((b"grpc-message", encode_message(error.message)))
        if error.code is Code.UNIMPLEMENTED:
            status.append((b"grpc-accept-encoding", ENCODINGS))
        if error.retry_after is not None:
            status.append((b"grpc-retry-pushback-ms", b"%d" % max(1, error.retry_after * 1e3)))
        status += _encoded(self._context.trailing_metadata)
        self._send_failure(status)

    def _end(self) -> None:
        self._ended = True
        self._owner.ended(self, self._held)
        self._held = 0
        if self._timer is not None:
            self._timer.cancel()


class UnaryCall(Call):
    """Reads the one message, runs the handler, answers; or fails at any point before."""

    _buffer: MessageBuffer | None = None
    _announced = False  # a message has begun
    _message: tuple[bytes, bool] | None = None
    _size_at_look = -1

    def __init__(
        self, owner: CallOwner, stream: Stream, head: Headers, fields: Mapping[bytes, bytes], handler: RpcHandler
    ) -> None:
        self._owner = owner
        self._stream = stream
        self._head = head
        self._fields = fields
        self._handler = handler

    def begin(self, context: RpcContext, end: bool) -> None:
        self._context = context
        if end:
            raise _no_message()

    def data_received(self, data: bytes, end: bool) -> None:
        if self._ended:
            return
        try:
            if (
                end
                and self._buffer is None
                and data[:1] == b"\0"
                and int.from_bytes(data[1:PREFIX], "big") == len(data) - PREFIX
            ):  # most messages come whole
                self._hold_message(len(data) - PREFIX)
                self._message = (data[PREFIX:], False)
            else:
                self._read(data, end)
        except ServingError as error:
            self._buffer = None
            self.fail(error)
            return
        if end:
            self._buffer = None
            self._owner.start_when_possible(self)

    def is_stuck(self) -> bool:
        """Whether the message is incomplete and nothing of it came since this was asked last."""
        if self._ended or self._message is not None:
            return False
        size = 0 if self._buffer is None else len(self._buffer)
        last, self._size_at_look = self._size_at_look, size
        return size == last

    def _read(self, data: bytes, end: bool) -> None:
        if self._buffer is None:
            self._buffer = MessageBuffer(self._admit)
        self._buffer.add(data)
        while (message := self._buffer.take()) is not None:  # one: a second is not admitted
            self._message = message
        if end:
            if self._buffer.inside:
                raise _cut_off()
            if self._message is None:
                raise _no_message()

    def _admit(self, length: int) -> None:
        if self._announced:
            raise ServingError(Code.UNIMPLEMENTED, "Expected one request message, got more")
        self._announced = True
        self._hold_message(length)

    def start(self) -> None:
        """The message is there: runs the handler."""
        assert self._message is not None
        message, compressed = self._message
        self._message = None
        context = self._context
        if context.deadline is not None and time.monotonic() >= context.deadline:
            self._deadline_passed()
            return
        if compressed:
            coroutine = self._decompress_and_run(message)
        else:
            self._handled = True
            coroutine = self._handler(message, context)
        del message  # the handler may be done with it long before its answer
        task = EagerTask(coroutine, self._done)
        if not self._ended:
            self._task = task
            self.arm_deadline()

    async def _decompress_and_run(self, data: bytes) -> bytes:
        message = await self._decompress(data)
        self._handled = True
        return await self._handler(message, self._context)

    def _done(self, answer: bytes | None, error: BaseException | None) -> None:
        self._task = None
        if error is None:
            assert answer is not None
            if self._ended:
                return
            if len(answer) > self._owner.max_send:
                self.fail(self._too_large(answer))
            else:
                self._answer(answer)
        else:
            self._fail_by(error)

    def _answer(self, answer: bytes) -> None:
        if self._context.compress:
            self._choose_encoding()
            if self._reply_encoding:
                task = EagerTask(self._compress(answer), self._compressed)
                if not self._ended:
                    self._task = task
                return
        self._end()
        if self._context.initial_metadata:
            self._send_headers()
        else:
            self._stream.send_headers(self._head)
        self._send_message(answer)
        self._send_ok()

    def _compressed(self, answer: bytes | None, error: BaseException | None) -> None:
        self._task = None
        if answer is None:
            assert error is not None
            self._fail_by(error)
        elif not self._ended:
            self._end()
            self._send_headers()
            self._stream.send_data(answer)
            self._send_ok()


class StreamingCall(Call):
    """Runs the handler from the headers on: it takes messages as they come and gives messages as it likes.

    Neither side runs ahead of the other: bytes that the handler did not take yet keep the peer's window small, and
    the handler waits while the peer's window, or the socket, is full.
    """

    _begun = False  # the headers of the answer are sent
    _requests: "_Requests | None" = None
    _resumed: asyncio.Future[None] | None = None

    def __init__(
        self, owner: CallOwner, stream: Stream, head: Headers, fields: Mapping[bytes, bytes], handler: StreamHandler
    ) -> None:
        super().__init__(owner, stream, head, fields)
        self._handler = handler

    def begin(self, context: RpcContext, end: bool) -> None:
        self._context = context
        if context.deadline is not None and time.monotonic() >= context.deadline:
            self._deadline_passed()
            return
        self._requests = requests = _Requests(self, self._stream, end)
        if not end:
            self._stream.keep_window()
        self._handled = True
        task = EagerTask(self._run(requests), self._done)
        if not self._ended:
            self._task = task
            self.arm_deadline()

    def data_received(self, data: bytes, end: bool) -> None:
        if self._requests is not None:
            self._requests.feed(data, end)

    @property
    def can_send(self) -> bool:
        return self._stream.unsent <= _MAX_UNSENT and not self._owner.output_full

    def resume(self) -> None:
        """The stream can take more."""
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    def admit(self, length: int) -> None:
        """A message of this length begins. The one before it is no longer held."""
        self._owner.release(self._held)
        self._held = 0
        self._hold_message(length)

    async def plain(self, message: bytes, compressed: bool) -> bytes:
        if compressed:
            return await self._decompress(message)
        self._context.compressed = False
        return message

    async def _run(self, requests: "_Requests") -> None:
        async with aclosing(self._handler(requests, self._context)) as answers:
            async for answer in answers:
                await self._send(answer)

    async def _send(self, answer: bytes) -> None:
        if self._ended:  # the handler goes on although it was cancelled
            raise asyncio.CancelledError
        if len(answer) > self._owner.max_send:
            raise self._too_large(answer)
        if not self._begun:
            self._begun = True
            if self._context.compress:
                self._choose_encoding()
            self._send_headers()
        if self._context.compress and self._reply_encoding:
            self._stream.send_data(await self._compress(answer))
        else:
            self._send_message(answer)
        if not self.can_send:
            self._resumed = asyncio.get_running_loop().create_future()
            self._owner.resume_when_possible(self)
            await self._resumed

    def _done(self, _: None, error: BaseException | None) -> None:
        self._task = None
        if error is not None:
            self._fail_by(error)
        elif not self._ended:
            if not self._begun:
                self._send_headers()
            self._end()
            self._send_ok()

    def _send_failure(self, status: Headers) -> None:
        if self._begun:
            self._stream.send_trailers(status)
        else:
            super()._send_failure(status)

    def _end(self) -> None:
        super()._end()
        self._requests = None  # it refers to this call
        self._stream.give_window()


class _Requests:
    """The messages of a streaming call, one after the other as the handler asks for them."""

    __slots__ = ("_buffer", "_call", "_ended", "_next", "_stream")

    def __init__(self, call: StreamingCall, stream: Stream, ended: bool) -> None:
        self._call = call
        self._stream = stream
        self._buffer = MessageBuffer(call.admit)
        self._next: asyncio.Future[tuple[bytes, bool] | None] | None = None  # while the handler waits
        self._ended = ended

    def feed(self, data: bytes, end: bool) -> None:
        self._buffer.add(data)
        self._ended = end
        if self._next is None or self._next.done():
            return
        try:
            message = self._buffer.take()
        except ServingError as error:
            self._next.set_exception(error)
            return
        if message is not None or end:
            self._next.set_result(message)
        else:
            self._stream.acknowledge()

    def __aiter__(self) -> "_Requests":
        return self

    async def __anext__(self) -> bytes:
        message = self._buffer.take()
        if message is None and not self._ended:
            self._stream.acknowledge()
            self._next = asyncio.get_running_loop().create_future()
            try:
                message = await self._next
            finally:
                self._next = None
        if message is None:
            if self._buffer.inside:
                raise _cut_off()
            raise StopAsyncIteration
        self._stream.acknowledge(but=len(self._buffer))
        return await self._call.plain(*message)


def _prefix(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big")


def _encoded(metadata: Sequence[tuple[str, str]]) -> Headers:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in metadata]


def _no_message() -> ServingError:
    return ServingError(Code.UNIMPLEMENTED, "Expected one request message, got none")


def _cut_off() -> ServingError:
    return ServingError(Code.INTERNAL, "The request ended inside a message")
