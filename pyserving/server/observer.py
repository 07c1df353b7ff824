"""Looks at all requests where that is asked for: request ids, access log, slow requests, traces.

It stands between the transports and the api, and only where something is to be seen: else nothing is in between.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import aclosing
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from types import coroutine
from typing import Any, Protocol, TypeVar

import orjson

from pyserving.api.exchange import (
    HttpHandler,
    HttpRequest,
    HttpResponse,
    Peer,
    RpcContext,
    RpcHandler,
    StreamedResponse,
    StreamHandler,
)
from pyserving.api.status_name import status_name
from pyserving.core.errors import ServingError
from pyserving.monitoring.observation import Observation, Trace, current
from pyserving.server.http_route import http_route

T = TypeVar("T")

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
"""What is taken from clients: it is written to logs and headers."""


@dataclass(slots=True)
class SeenRequest:
    """What is known of a request in the end."""

    protocol: str
    """``REST`` or ``GRPC``."""
    method: str
    """``POST``, or the full name of a gRPC method."""
    path: str
    """Of REST, without the query; empty for gRPC."""
    request_id: str
    peer: Peer
    key: str
    """Name of the API key that was shown."""
    observation: Observation = field(default_factory=Observation)
    bytes_in: int = 0
    bytes_out: int = 0
    """Of bodies and messages, uncompressed."""
    status: str = ""
    """``200``, or the name of a gRPC status: ``OK``."""
    error: str = ""
    trace_id: str = ""

    @property
    def seconds(self) -> float:
        return self.observation.ended - self.observation.begun

    @property
    def time(self) -> float:
        """When it began, in seconds since the epoch."""
        return self.observation.begun + self.observation.epoch


Sink = Callable[[SeenRequest], None]
"""Is told of each request once it was answered. It must not wait."""


class RequestTrace(Trace, Protocol):
    """The span of a whole request."""

    trace_id: str

    def finish(self, seen: SeenRequest) -> None: ...


BeginTrace = Callable[[SeenRequest, Mapping[str, str]], RequestTrace | None]
"""Begins the trace of a request that has these headers, if it is to have one."""
KeyName = Callable[[Mapping[str, str]], str]


class Observer:
    """Wraps handlers and guards. Used on the event loop."""

    def __init__(self, sinks: Sequence[Sink], key_name: KeyName, begin_trace: BeginTrace | None = None) -> None:
        """``key_name``: the name of the API key that is in a request's headers."""
        self._sinks = sinks
        self._key_name = key_name
        self._begin_trace = begin_trace

    def http(self, handler: HttpHandler) -> HttpHandler:
        async def handle(request: HttpRequest) -> HttpResponse:
            headers = request.headers
            target = request.target.partition("?")[0]
            look = self._begin("REST", request.method, target, request.peer, headers)
            seen = look.seen
            seen.bytes_in = len(request.body)
            try:
                response = await _within(look.context, handler(request))
            except BaseException as error:
                look.end("499" if isinstance(error, asyncio.CancelledError) else "500", _text(error))
                raise
            response.headers = [*response.headers, ("X-Request-Id", seen.request_id)]
            if isinstance(response, StreamedResponse):
                response.pieces = _counted(response.pieces, look, str(response.status))
            else:
                seen.bytes_out = len(response.body)
                look.name(http_route(request.method, target).model)
                look.end(str(response.status), "")
            return response

        return handle

    def rpc(self, method: str, handler: RpcHandler) -> RpcHandler:
        async def handle(data: bytes, context: RpcContext) -> bytes:
            look = self._begin_rpc(method, context)
            look.seen.bytes_in = len(data)
            try:
                answer = await _within(look.context, handler(data, context))
            except BaseException as error:
                look.name(context.model)
                look.end(status_name(error), _text(error))
                raise
            look.seen.bytes_out = len(answer)
            look.name(context.model)
            look.end("OK", "")
            return answer

        return handle

    def stream(self, method: str, handler: StreamHandler) -> StreamHandler:
        async def handle(given: AsyncIterator[bytes], context: RpcContext) -> AsyncGenerator[bytes, None]:
            look = self._begin_rpc(method, context)

            async def messages() -> AsyncGenerator[bytes, None]:
                async for message in given:
                    look.seen.bytes_in += len(message)
                    yield message

            async with aclosing(_counted(handler(messages(), context), look, "OK")) as pieces:
                async for piece in pieces:
                    look.name(context.model)
                    yield piece

        return handle

    def http_refused(self, request: HttpRequest, response: HttpResponse) -> None:
        """An ``HttpRefused``."""
        path = request.target.partition("?")[0]
        look = self._begin("REST", request.method, path, request.peer, request.headers)
        response.headers = [*response.headers, ("X-Request-Id", look.seen.request_id)]
        look.seen.bytes_out = len(response.body)
        look.name(http_route(request.method, path).model)
        look.end(str(response.status), orjson.loads(response.body)["error"])

    def rpc_refused(self, fields: Mapping[bytes, bytes], peer: Peer, error: ServingError) -> None:
        """An ``RpcRefused``."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in fields.items()}
        look = self._begin("GRPC", headers.get(":path", "").lstrip("/"), "", peer, headers)
        look.end(error.code.name, error.message)

    def _begin_rpc(self, method: str, context: RpcContext) -> "_Look":
        look = self._begin("GRPC", method.lstrip("/"), "", context.peer, dict(context.metadata))
        context.trailing_metadata = [("x-request-id", look.seen.request_id)]
        return look

    def _begin(self, protocol: str, method: str, path: str, peer: Peer, headers: Mapping[str, str]) -> "_Look":
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        seen = SeenRequest(protocol, method, path, request_id, peer, self._key_name(headers))
        trace = None if self._begin_trace is None else self._begin_trace(seen, headers)
        if trace is not None:
            seen.observation.trace = trace
            seen.trace_id = trace.trace_id
        return _Look(seen, trace, self._sinks)


class _Look:
    """At one request, from its begin to its end."""

    def __init__(self, seen: SeenRequest, trace: RequestTrace | None, sinks: Sequence[Sink]) -> None:
        self.seen = seen
        self.context = copy_context()
        self.context.run(current.set, seen.observation)
        self._trace = trace
        self._sinks = sinks

    def name(self, model: str) -> None:
        """What was asked for, where nothing ran."""
        if not self.seen.observation.runs:
            self.seen.observation.model = model

    def end(self, status: str, error: str) -> None:
        self.seen.status = status
        self.seen.error = error
        self.seen.observation.end()
        if self._trace is not None:
            self._trace.finish(self.seen)
        for sink in self._sinks:
            sink(self.seen)


async def _counted(pieces: AsyncGenerator[bytes, None], look: _Look, status: str) -> AsyncGenerator[bytes, None]:
    """The pieces of an answer, made in the context of its request; when they end, the request has ended."""
    try:
        async with aclosing(pieces):
            while True:
                try:
                    piece = await _within(look.context, pieces.__anext__())
                except StopAsyncIteration:
                    break
                look.seen.bytes_out += len(piece)
                yield piece
    except BaseException as error:
        left = isinstance(error, GeneratorExit)
        look.end("499" if status == "200" else "CANCELLED" if left else status_name(error), _text(error))
        raise
    look.end(status, "")


@coroutine
def _within(context: Context, work: Awaitable[T]) -> Generator[Any, Any, T]:
    """Awaits ``work``, each step of it in ``context``. Whoever drives us needs no task of its own for that."""
    steps: Any = work if isinstance(work, Coroutine) else work.__await__()
    step, argument = steps.send, None
    while True:
        try:
            waits_for = context.run(step, argument)
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            argument = yield waits_for
            step = steps.send
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:
            step, argument = steps.throw, error


def _text(error: BaseException) -> str:
    return str(getattr(error, "message", "") or type(error).__name__)
