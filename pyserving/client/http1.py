"""HTTP/1.1 connections that are kept open and used again, on asyncio; httptools reads the answers."""

import asyncio
import ssl
from asyncio import Future
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import TypeVar, cast

import httptools
import orjson

from pyserving.client.address import Address
from pyserving.client.call import Call
from pyserving.client.errors import Mismatch, Unreachable
from pyserving.core.errors import Code, ServingError

T = TypeVar("T")

MAX_CONNECTIONS = 100
"""To one address; more requests wait for one of them."""
CONNECT_SECONDS = 10.0
_HELD_PIECES = 64
"""Of a streamed answer, before reading is held up."""

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


class _Exchange(asyncio.Protocol):
    """One connection: a request at a time, and the parser's callbacks for its answer."""

    def __init__(self) -> None:
        self.reusable = True
        self.status = 0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._head = self._complete = self._framed = False
        self._lost: BaseException | None = None
        self._waiter: Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    @property
    def usable(self) -> bool:
        return self._lost is None and self._transport is not None and not self._transport.is_closing()

    def send(self, data: Sequence[bytes]) -> None:
        assert self._transport is not None
        self.status = 0
        self._head = self._complete = self._framed = False
        self._pieces.clear()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.writelines(data)

    async def head(self) -> int:
        """The status, when it is there."""
        while not self._head:
            await self._changed()
        return self.status

    async def rest(self) -> bytes:
        """The whole body."""
        while not self._complete:
            await self._changed()
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    async def piece(self) -> bytes:
        """Some of the body; empty at its end."""
        assert self._transport is not None
        while not self._pieces:
            if self._complete:
                return b""
            self._transport.resume_reading()
            await self._changed()
        return self._pieces.popleft()

    def hold(self) -> None:
        """Stops reading where much is held that nobody has taken."""
        if len(self._pieces) > _HELD_PIECES and self._transport is not None and self.usable:
            self._transport.pause_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    @property
    def complete(self) -> bool:
        return self._complete

    async def _changed(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lost = Mismatch(f"what answers does not speak HTTP/1.1: {error}, {data[:40]!r}")
            self.close()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is None:
            self._lost = ConnectionResetError(str(exc) if exc else "the server closed the connection")
        if self._head and not self._framed:
            self._complete = True  # a body that ends with the connection
        self.reusable = False
        self._wake()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: ARG002
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._head = True
            self.reusable = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._head:  # not the end of a 100 Continue
            self._complete = True


class RestConnection:
    """A pool of connections to one address."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, headers: Sequence[tuple[str, str]]) -> None:
        self._address = address
        self._context = context if address.tls else None
        host = "localhost" if address.unix else address.authority
        fixed = [("Host", host), ("Content-Type", "application/json"), *headers]
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in fixed)
        self._idle: list[_Exchange] = []
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)

    async def ask(self, call: Call[T], timeout: float) -> T:
        try:
            async with asyncio.timeout(timeout), self._places:
                exchange = await self._send(call)
                try:
                    status, body = await exchange.head(), await exchange.rest()
                finally:
                    self._give_back(exchange)
        except TimeoutError:
            raise self._too_late(timeout) from None
        except OSError as error:
            raise self._unreachable(error) from None
        if status != 200:
            raise self._refusal(status, body)
        return call.read(body)

    async def stream(self, call: Call[T], timeout: float) -> AsyncGenerator[T, None]:
        end = asyncio.get_running_loop().time() + timeout
        try:
            async with self._places:
                async with asyncio.timeout_at(end):
                    exchange = await self._send(call)
                try:
                    async with aclosing(self._lines(exchange, end)) as lines:
                        async for line in lines:
                            yield call.read(line)
                finally:
                    self._give_back(exchange)
        except TimeoutError:
            raise self._too_late(timeout) from None
        except OSError as error:
            raise self._unreachable(error) from None

    async def _lines(self, exchange: _Exchange, end: float) -> AsyncGenerator[bytes, None]:
        async with asyncio.timeout_at(end):
            status = await exchange.head()
            if status != 200:
                raise self._refusal(status, await exchange.rest())
        held: list[bytes] = []  # of a line whose end has not come
        while True:
            async with asyncio.timeout_at(end):
                piece = await exchange.piece()
            if not piece:
                break
            *lines, rest = piece.split(b"\n")
            if lines:
                lines[0] = b"".join([*held, lines[0]])
                held.clear()
            held.append(rest)
            for line in filter(None, lines):
                exchange.hold()
                yield line
        if last := b"".join(held):
            yield last

    async def close(self) -> None:
        for exchange in self._idle:
            exchange.close()
        self._idle.clear()

    async def _send(self, call: Call[T]) -> _Exchange:
        while self._idle:
            exchange = self._idle.pop()
            if exchange.usable:
                break
        else:
            exchange = await self._connect()
        method = "POST" if call.body else "GET"
        extra = "".join(f"{name}: {value}\r\n" for name, value in call.headers)
        length = f"Content-Length: {len(call.body)}\r\n" if call.body else ""
        head = f"{method} {self._address.prefix}{call.path} HTTP/1.1\r\n{self._headers}{extra}{length}\r\n"
        exchange.send([head.encode(), call.body] if call.body else [head.encode()])
        return exchange

    async def _connect(self) -> _Exchange:
        loop = asyncio.get_running_loop()
        address = self._address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if address.unix:
                    _, exchange = await loop.create_unix_connection(_Exchange, address.unix)
                else:
                    _, exchange = await loop.create_connection(_Exchange, address.host, address.port, ssl=self._context)
        except TimeoutError:
            raise ConnectionError(f"no connection within {CONNECT_SECONDS:g} s") from None
        return exchange

    def _give_back(self, exchange: _Exchange) -> None:
        if exchange.complete and exchange.reusable and exchange.usable:
            self._idle.append(exchange)
        else:
            exchange.close()

    def _too_late(self, timeout: float) -> ServingError:
        return ServingError(Code.DEADLINE_EXCEEDED, f"no answer from {self._address} within {timeout:.3g} s")

    def _unreachable(self, error: OSError) -> Unreachable:
        return Unreachable(f"{self._address} does not answer: {why(error)}")

    def _refusal(self, status: int, body: bytes) -> ServingError:
        code = _CODES.get(status, Code.INTERNAL if status >= 500 else Code.UNKNOWN)
        try:
            return ServingError(code, str(orjson.loads(body)["error"]))
        except (ValueError, TypeError, KeyError):
            phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""
            text = body[:200].decode(errors="replace").strip()
            return ServingError(code, f"{self._address} answered {status} {phrase}: {text}".rstrip(": "))


def why(error: OSError) -> str:
    """The system's words for what went wrong, without its numbers."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
    return str(error.strerror or error)
