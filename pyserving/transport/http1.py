"""HTTP/1.1 (and 1.0) server connections: bytes to whole requests, whole answers to bytes.

A request whose handler never waits is answered within the same call of ``data_received``. Requests may be pipelined:
their handlers then run at the same time, their answers go out in the order of the requests. A message that two readers
could understand in two ways (two lengths, a length and chunks, folded headers) is refused.

A client that closes, or half-closes, its end while it waits for an answer is taken as gone.
"""

import asyncio
import json
import logging
import math
import re
from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn, cast

import httptools

from pyserving.api.exchange import (
    HttpGuard,
    HttpHandler,
    HttpRefused,
    HttpRequest,
    HttpResponse,
    Peer,
    StreamedResponse,
)
from pyserving.core.errors import ServingError
from pyserving.transport.body import Body, BodyTooLarge, GzipBody, PlainBody
from pyserving.transport.eager import EagerTask
from pyserving.transport.http1_stream import CHUNKED, ResponseStream
from pyserving.transport.limits import HttpLimits
from pyserving.transport.listener import Connection, Connections
from pyserving.transport.request_memory import LARGE, RequestMemory
from pyserving.transport.response_head import NO_CONTENT, ResponseHeads

logger = logging.getLogger("pyserving.transport")


class Http1Server:
    """What the connections of one listener share; ``Listener(sockets, server.new_connection)`` runs it."""

    def __init__(
        self,
        handler: HttpHandler,
        limits: HttpLimits | None = None,
        guard_for: Callable[[Peer], HttpGuard | None] | None = None,
        memory: RequestMemory | None = None,
        refused: HttpRefused | None = None,
    ) -> None:
        """``guard_for`` is asked once for each connection who may do what. ``memory``: that of all requests."""
        self.refused: Final = refused
        self.memory: Final = memory
        self.handler: Final = handler
        self.guard_for: Final = guard_for
        self.limits: Final = limits or HttpLimits()
        self.heads: Final = ResponseHeads()
        self.tick: Final = min(
            self.limits.head_timeout, self.limits.body_timeout, self.limits.idle_timeout, self.limits.send_timeout
        )
        """A timer that fires so often is never late for a deadline that was set after it: setting one costs nothing."""

    def new_connection(self, connections: Connections) -> "Http1Connection":
        return Http1Connection(self, connections)


class _Exchange:
    """One request of a connection, from its last byte to its answer."""

    __slots__ = (
        *("connection", "head_only", "http10", "keep_alive"),
        *("held", "packed", "queued", "request", "response", "size", "stream", "task"),
    )

    def __init__(
        self, connection: "Http1Connection", request: HttpRequest | None, keep_alive: bool, http10: bool
    ) -> None:
        self.connection = connection
        self.request = request
        self.packed: Body | None = None
        """The request's body, where it has yet to be unpacked."""
        self.keep_alive = keep_alive
        self.http10 = http10
        self.head_only = False
        self.size = 0
        self.held = 0
        """Bytes of the body that memory was promised for."""
        self.queued = False
        self.response: HttpResponse | None = None
        self.stream: ResponseStream | None = None
        self.task: EagerTask[HttpResponse] | None = None

    def start(self) -> None:
        request, self.request = self.request, None
        packed, self.packed = self.packed, None
        assert request is not None
        connection = self.connection
        work = connection.handler(request) if packed is None else connection.unpack(request, packed)
        task = EagerTask(work, self._on_done)
        if not task.done:
            self.task = task

    def _on_done(self, response: HttpResponse | None, error: BaseException | None) -> None:
        self.task = None
        if response is None:
            self.response = self.connection.on_handler_error(error)
        elif isinstance(response, StreamedResponse):
            self.connection.prepare_stream(self, response)
        else:
            self.response = response
        if self.queued:
            self.connection.pump()


class _Refused(Exception):  # noqa: N818
    """Stops the parser; what to answer is in the connection."""


# Where the parser stands in the stream of messages.
_IDLE, _HEAD, _BODY, _UPGRADE = range(4)

_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}

_NAMES = {
    name: name.decode().lower()
    for name in (
        *(b"Host", b"User-Agent", b"Accept", b"Accept-Encoding", b"Connection", b"Content-Type", b"Content-Length"),
        *(b"host", b"user-agent", b"accept", b"accept-encoding", b"connection", b"content-type", b"content-length"),
    )
}
"""Names as most clients write them, to save the decoding."""

_SLICE = 16 * 1024
"""Bytes parsed at a time while requests begin and end among them: more requests than one slice holds never wait."""

_MAX_HELD = 1024 * 1024
"""Bytes of bodies in pipelined requests beyond which reading pauses."""

_JOIN = 64 * 1024
"""Bodies up to this size are joined with their headers: one copy costs less than a second buffer to write."""

_METHOD_AT_START = re.compile(rb"[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: |\Z)")
_METHOD_INSIDE = re.compile(rb"\n[!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/")

_CLOSE = b"Connection: close\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n"


class Http1Connection(Connection):
    """One client. The ``on_...`` methods without docstrings are httptools' callbacks."""

    def __init__(self, server: Http1Server, connections: Connections) -> None:
        self.handler = server.handler
        self._server = server
        self._limits = server.limits
        self._guard: HttpGuard | None = None
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._peer: Peer = None

        # The message that is being read.
        self._state = _IDLE
        self._method = ""
        self._target = b""
        self._headers: dict[str, str] = {}
        self._header_count = 0
        self._head_size = 0  # bytes of target, headers and trailers
        self._unfinished = 0  # bytes of a line that the parser gathers and has not told of yet
        self._completed = False  # whether a message ended in the bytes that are being parsed
        self._head_deadline = 0.0
        self._body_begun = 0.0  # 0: it did not
        self._keep_alive = True
        self._http10 = False
        self._length = 0  # of the body; -1 while it comes in chunks
        self._whole_body = b""
        self._body: Body | None = None
        self._memory_held = 0
        self._owes_continue = False

        # Requests that were read and not answered, in order.
        self._exchanges: deque[_Exchange] = deque()
        self._unstarted: deque[_Exchange] = deque()
        self._held = 0
        self._rest = b""  # received, not parsed yet

        self._refusal: HttpResponse | None = None
        self._over = False  # no further request is taken from this connection
        self._gone = False
        self._draining = False
        self._feeding = False
        self._pumping = False
        self._reading = True
        self._write_paused = False
        self._deadline = math.inf
        self._unsent = 0
        self._unsent_deadline = math.inf

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but ancestry
        self._peer = transport.get_extra_info("peername")
        if self._server.guard_for is not None:
            self._guard = self._server.guard_for(self._peer)
        self._deadline = self._loop.time() + self._limits.idle_timeout
        self._timer = self._loop.call_later(self._server.tick, self._on_timer)
        self._connections.add(self)
        most = self._limits.max_connections
        if most is not None and len(self._connections) > most and not self._over:
            self._refuse(_error(503, f"Expected at most {most} connections at a time, this is one more"))

    def connection_lost(self, _: Exception | None) -> None:
        self._timer.cancel()
        self._connections.remove(self)
        self._cancel()
        del self._parser  # it holds our methods: a cycle

    def eof_received(self) -> None:
        self._cancel()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._rest:
            self._rest += data
            return
        self._feed(data)
        self._settle()

    def pause_writing(self) -> None:
        self._write_paused = True
        if not self._feeding:
            self._settle()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._exchanges and self._exchanges[0].stream is not None:
            self._exchanges[0].stream.resume()
        self.pump()

    # What the listener calls.

    def drain(self) -> None:
        self._draining = True
        in_handler = self._feeding or self._pumping  # it is called by one; the answer to that one will close
        if self._state == _IDLE and not self._exchanges and not self._over and not in_handler:
            self._deadline = min(self._deadline, self._loop.time() + self._limits.drain_wait)
            self._set_timer(min(self._server.tick, self._limits.drain_wait))

    def abort(self) -> None:
        self._cancel()
        self._transport.abort()

    # What an exchange calls.

    async def unpack(self, request: HttpRequest, packed: Body) -> HttpResponse:
        """Handles ``request`` once its body was unpacked, which is done on a thread."""
        try:
            request.body = await self._loop.run_in_executor(None, packed.finish)
        except BodyTooLarge as error:
            refusal = _error(413, str(error))
            if self._server.refused is not None:
                self._server.refused(request, refusal)
            return refusal
        return await self.handler(request)

    # From bytes to requests.

    def _feed(self, data: bytes) -> None:
        """Parses ``data``, or as much of it as may wait for answers; the rest is kept."""
        self._feeding = True
        try:
            if len(data) <= _SLICE:
                self._parse(data)
                return
            view = memoryview(data)
            at = 0
            while at < len(view) and not self._over:
                if not self._may_read():
                    self._rest = bytes(view[at:])
                    return
                size = _SLICE
                if self._state == _BODY and self._length > 0:
                    size = max(size, self._length - self._received)
                self._parse(view[at : at + size])
                at += size
        finally:
            self._feeding = False

    @property
    def _received(self) -> int:
        """Bytes of the body that is being read."""
        return self._body.received if self._body is not None else 0

    def _parse(self, data: bytes | memoryview) -> None:
        state = self._state
        received = self._received
        self._completed = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._over:
                self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._on_parser_error(error, data)
        else:
            # The parser gathers an unfinished line itself: a head or a chunk's extension or trailer without end.
            if self._state == _HEAD:
                self._unfinished = 0 if self._completed else self._unfinished + len(data)
            elif state == _BODY and self._state == _BODY and self._length < 0 and not self._completed:
                self._unfinished = self._unfinished + len(data) if self._received == received else 0
            else:
                self._unfinished = 0
            if self._unfinished > self._limits.max_head and not self._over:
                self._refuse(self._head_too_large())

    def on_url(self, url: bytes) -> None:
        if self._state == _IDLE:
            if self._over:
                raise _Refused
            self._state = _HEAD
            self._method = ""
            self._target = url
            self._headers = {}
            self._header_count = 0
            self._head_size = len(url)
            self._head_deadline = 0.0
            self._body_begun = 0.0
        elif self._state == _HEAD:
            self._target += url
            self._head_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._state == _UPGRADE:
            return
        self._head_size += len(name) + len(value)
        self._header_count += 1
        if self._header_count > self._limits.max_headers or self._head_size > self._limits.max_head:
            self._stop(self._head_too_large())
        if self._state == _BODY:  # a trailer, of no use to anyone here
            return
        key = _NAMES.get(name) or name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        headers = self._headers
        if key in headers:
            if key == "host":
                self._stop(_error(400, "Expected one Host header, got several"))
            text = f"{headers[key]}, {text}"
        headers[key] = text

    def on_headers_complete(self) -> None:
        if self._state == _UPGRADE:
            self._state = _BODY
            return
        parser = self._parser
        headers = self._headers
        if self._head_size > self._limits.max_head:
            self._stop(self._head_too_large())
        self._http10 = False
        self._keep_alive = keep_alive = parser.should_keep_alive()
        if not keep_alive or "connection" in headers:  # else it is HTTP/1.1
            version = parser.get_http_version()
            if version not in ("1.0", "1.1"):
                self._stop(_error(505, f"Expected HTTP/1.1 or HTTP/1.0, got HTTP/{version}"))
            self._http10 = version == "1.0"
        raw_method = parser.get_method()
        method = _METHODS.get(raw_method)
        if method is None:
            self._stop(_error(501, f"Expected one of {_METHOD_LIST}, got the method {raw_method.decode()}"))
        self._method = method
        if self._guard is not None:
            refusal = self._guard(method, self._target.decode("latin-1"), headers)
            if refusal is not None:
                self._stop(refusal)
        self._state = _BODY
        self._whole_body = b""
        self._body = None
        self._owes_continue = False
        length = headers.get("content-length")
        if length is not None:
            if len(length) > 20:  # the parser keeps the number below 2**64, not the zeros before it
                self._stop(_error(400, f"Expected Content-Length in at most 20 digits, got {len(length)}"))
            self._length = int(length)
            if self._length > self._limits.max_body:
                self._stop(_error(413, f"Expected a body of at most {self._limits.max_body} bytes, got {length}"))
            if self._length >= LARGE:
                self._hold(self._length)
        elif "transfer-encoding" in headers:
            self._on_transfer_encoding(headers["transfer-encoding"])
        else:
            self._length = 0
        if "content-encoding" in headers and "gzip" in headers["content-encoding"].lower():
            self._body = GzipBody(self._limits)
        if "expect" in headers and not self._http10:
            if headers["expect"].lower() != "100-continue":
                self._stop(_error(417, f"Expected Expect: 100-continue, got {headers['expect']}"))
            self._owes_continue = self._length != 0
        if "upgrade" in headers and parser.should_upgrade():
            self._state = _UPGRADE

    def on_body(self, piece: bytes) -> None:
        body = self._body
        if body is None:
            if len(piece) == self._length:
                self._whole_body = piece
                return
            body = self._body = PlainBody(self._limits, self._length)
        try:
            body.add(piece)
        except BodyTooLarge as refusal:
            self._stop(_error(413, str(refusal)))

    def on_message_complete(self) -> None:
        if self._state == _UPGRADE:
            return
        body = self._whole_body
        packed = None
        if self._body is not None:
            if self._body.deferred:
                packed = self._body
            else:
                body = self._body.finish()
            self._body = None
        self._whole_body = b""
        request = HttpRequest(self._method, self._target.decode("latin-1"), self._headers, body, self._peer)
        exchange = _Exchange(self, request, self._keep_alive, self._http10)
        exchange.packed = packed
        size = len(body) if packed is None else packed.received
        if size >= LARGE and not self._memory_held:  # its length was not announced
            self._hold(size)
        exchange.held, self._memory_held = self._memory_held, 0
        exchange.head_only = self._method == "HEAD"
        self._state = _IDLE
        self._completed = True
        self._owes_continue = False
        if not self._keep_alive:
            self._over = True
            self._deadline = math.inf
        if not self._exchanges and not self._write_paused:
            exchange.start()
            if exchange.response is not None:
                self._answer(exchange, exchange.response)
            else:
                self._queue(exchange, size)
                if exchange.stream is not None:
                    self.pump()
        else:
            self._unstarted.append(exchange)
            self._queue(exchange, size)
            self.pump()

    def _hold(self, size: int) -> None:
        """Of the message that is being read: refuses it if it would not fit into memory."""
        memory = self._server.memory
        if memory is not None:
            try:
                memory.hold(size)
            except ServingError as error:
                refusal = _error(429, error.message)
                refusal.headers = (("Retry-After", "1"),)
                self._stop(refusal)
            self._memory_held = size

    def _release(self, exchange: _Exchange | None = None) -> None:
        """What was held for an exchange, or else for the message that is being read."""
        held = exchange.held if exchange is not None else self._memory_held
        if held:
            assert self._server.memory is not None
            self._server.memory.release(held)
            if exchange is not None:
                exchange.held = 0
            else:
                self._memory_held = 0

    def _on_transfer_encoding(self, encoding: str) -> None:
        if self._http10:
            self._stop(_error(400, "Expected Content-Length with HTTP/1.0, got Transfer-Encoding"))
        if encoding.lower() != "chunked":
            self._stop(_error(501, f"Expected Transfer-Encoding: chunked, got {encoding}"))
        self._length = -1

    def _ignore_upgrade(self, rest: bytes | memoryview) -> None:
        """Reads on after headers that ask for another protocol (h2c, say), as if they had not asked.

        The parser took the message to end there. A new one is told how long the body is and finds it next.
        """
        self._parser = httptools.HttpRequestParser(self)
        framing = b"Transfer-Encoding: chunked" if self._length < 0 else b"Content-Length: %d" % self._length
        self._parse(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        if rest and not self._over:
            self._parse(rest)

    def _on_parser_error(self, error: httptools.HttpParserError, data: bytes | memoryview) -> None:
        if self._refusal is not None:
            self._refuse(self._refusal)
            return
        if self._over:  # the message after the last one
            return
        if isinstance(error, httptools.HttpParserCallbackError):
            cause = error.__context__
            if cause is not None and not isinstance(cause, Exception):
                raise cause  # KeyboardInterrupt, SystemExit
            self._refuse(self.on_handler_error(cause or error))
        elif isinstance(error, httptools.HttpParserInvalidMethodError) and self._names_a_method(bytes(data)):
            self._refuse(_error(501, f"Expected one of {_METHOD_LIST}, in capitals, got another method"))
        else:
            self._refuse(_error(400, f"Expected an HTTP/1.1 request, got a malformed one: {error}"))

    def _names_a_method(self, data: bytes) -> bool:
        return bool(_METHOD_AT_START.match(data) if not self._completed else _METHOD_INSIDE.search(data))

    def _head_too_large(self) -> HttpResponse:
        limits = self._limits
        return _error(
            431, f"Expected at most {limits.max_head} bytes of headers in at most {limits.max_headers} lines, got more"
        )

    def _stop(self, refusal: HttpResponse) -> NoReturn:
        """From within a callback: the parser takes no more, the client gets ``refusal``."""
        self._refusal = refusal
        raise _Refused

    # From handlers' answers to bytes.

    def _queue(self, exchange: _Exchange, size: int) -> None:
        exchange.queued = True
        exchange.size = size
        self._held += size
        self._exchanges.append(exchange)

    def pump(self) -> None:
        """Writes the answers that are due, starts the requests that may start."""
        if self._pumping or self._gone:
            return
        self._pumping = True
        exchanges = self._exchanges
        unstarted = self._unstarted
        while exchanges and not self._write_paused:
            first = exchanges[0]
            if first.response is not None:
                exchanges.popleft()
                self._held -= first.size
                self._answer(first, first.response)
            elif first.stream is not None and not first.stream.started:
                first.stream.start()
            elif unstarted and len(exchanges) - len(unstarted) < self._limits.max_pipelined:
                unstarted.popleft().start()
            else:
                break
        self._pumping = False
        if not self._feeding:
            self._settle()

    def _answer(self, exchange: _Exchange, response: HttpResponse) -> None:
        keep_alive = exchange.keep_alive
        if self._draining and not self._exchanges and self._state == _IDLE:
            keep_alive = False
        connection = _CLOSE if not keep_alive else _KEEP_ALIVE if exchange.http10 else b""
        body = response.body
        heads = self._server.heads
        try:
            head = heads.head(response.status, response.content_type, len(body), response.headers, connection)
        except ValueError as error:
            failed = self.on_handler_error(error)
            body = failed.body
            head = heads.head(failed.status, failed.content_type, len(body), (), connection)
        if exchange.head_only or response.status == NO_CONTENT:
            self._transport.write(head)
        elif len(body) <= _JOIN:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        if exchange.held:
            self._release(exchange)
        if not keep_alive:
            self._close(linger=self._refusal is not None or bool(self._rest))

    # From pieces to bytes: StreamOwner.

    def prepare_stream(self, exchange: _Exchange, response: StreamedResponse) -> None:
        """The body of this exchange's answer comes piece by piece, once it is its turn."""
        chunked = not exchange.http10
        exchange.keep_alive &= chunked and not self._draining
        lines = (CHUNKED if chunked else b"") + (b"" if exchange.keep_alive else _CLOSE)
        head = self._server.heads.head(response.status, response.content_type, None, response.headers, lines)
        exchange.stream = ResponseStream(self, response.pieces, head, chunked=chunked)
        if self._gone:
            exchange.stream.cancel()

    @property
    def write_paused(self) -> bool:
        return self._write_paused

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def stream_ended(self, error: BaseException | None) -> None:
        if self._gone:
            return
        exchange = self._exchanges.popleft()
        self._held -= exchange.size
        self._release(exchange)
        if error is not None:
            logger.error("A streamed answer broke off", exc_info=error)
        if error is not None or not exchange.keep_alive or self._draining:
            self._close(linger=bool(self._rest))
        self.pump()

    def on_handler_error(self, error: BaseException | None) -> HttpResponse:
        """What to answer for an exception that escaped: a bug, unless the client is gone and we cancelled."""
        if self._gone:
            logger.debug("A request ended after its client was gone: %r", error)
        else:
            logger.error("A request handler failed", exc_info=error)
        return _error(500, "internal error")

    def _refuse(self, response: HttpResponse) -> None:
        """Answers, after the requests before it, what cannot be read or must not be; then closes."""
        logger.debug("Refused a request: %d %s", response.status, response.body)
        if self._server.refused is not None:
            self._server.refused(self._as_far_as_read(), response)
        self._refusal = response
        self._over = True
        self._state = _IDLE
        self._owes_continue = False
        self._body = None
        self._release()
        self._deadline = math.inf
        exchange = _Exchange(self, None, keep_alive=False, http10=False)
        exchange.response = response
        self._queue(exchange, 0)
        self.pump()

    def _as_far_as_read(self) -> HttpRequest:
        if self._state == _IDLE:
            return HttpRequest("", "", {}, b"", self._peer)
        return HttpRequest(self._method, self._target.decode("latin-1"), self._headers, b"", self._peer)

    # When to read, when to wait, when to end.

    def _may_read(self) -> bool:
        waiting = len(self._exchanges)
        return not self._write_paused and (
            waiting <= 1 or (waiting < self._limits.max_pipelined and self._held <= _MAX_HELD)
        )

    def _settle(self) -> None:
        """After anything happened: parses what was kept, pauses or resumes reading, sets the deadline."""
        while self._rest and self._may_read() and not self._over:
            rest, self._rest = self._rest, b""
            self._feed(rest)
        if self._over:
            return
        may_read = self._may_read()
        if may_read != self._reading:
            self._reading = may_read
            if may_read:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
        if self._owes_continue and not self._exchanges:
            self._owes_continue = False
            if not self._received:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not may_read:  # the client is not late while we do not listen
            self._head_deadline = 0.0
            self._body_begun = 0.0
            self._deadline = math.inf
            return
        now = self._loop.time()
        if self._state == _IDLE:
            self._deadline = math.inf if self._exchanges else now + self._limits.idle_timeout
        elif self._state == _HEAD:
            self._head_deadline = self._head_deadline or now + self._limits.head_timeout
            self._deadline = self._head_deadline
        else:
            limits = self._limits
            self._body_begun = self._body_begun or now
            slowest = self._body_begun + self._received / limits.min_body_rate
            self._deadline = min(now, slowest) + limits.body_timeout

    def _on_timer(self) -> None:
        now = self._loop.time()
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent or not unsent:
            self._unsent = unsent
            self._unsent_deadline = now + self._limits.send_timeout
        elif now >= self._unsent_deadline:
            self.abort()
            return
        if now >= self._deadline:
            self._on_deadline()
        self._set_timer(min(self._server.tick, max(self._deadline - now, 0.001)))

    def _set_timer(self, wait: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(wait, self._on_timer)

    def _on_deadline(self) -> None:
        limits = self._limits
        if self._over:
            self.abort()
        elif self._state == _IDLE:
            self._close(linger=False)
        elif self._state == _HEAD:
            self._refuse(_error(408, f"Expected all headers within {limits.head_timeout:g} s, got a part of them"))
        else:
            self._refuse(_error(408, f"Expected the rest of the body, too little came for {limits.body_timeout:g} s"))

    def _close(self, *, linger: bool) -> None:
        self._over = True
        self._deadline = math.inf
        if not linger:
            self._transport.close()
            return
        # Closing with unread bytes would reset the connection, and the client might never see the answer.
        self._rest = b""
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._deadline = self._loop.time() + self._limits.linger
        self._set_timer(min(self._server.tick, self._limits.linger))

    def _cancel(self) -> None:
        self._over = True
        self._deadline = math.inf
        self._gone = True
        self._unstarted.clear()
        for exchange in self._exchanges:
            if exchange.task is not None:
                exchange.task.cancel()
            if exchange.stream is not None:
                exchange.stream.cancel()
            self._release(exchange)
        self._release()
        self._exchanges.clear()


_METHOD_LIST = ", ".join(_METHODS.values())


def _error(status: int, message: str) -> HttpResponse:
    return HttpResponse(status, json.dumps({"error": message}).encode())
