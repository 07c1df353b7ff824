"""What passes between the ingress and the replicas of models: plain values, which Ray can carry."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from pyserving.api.exchange import (
    HttpHandler,
    HttpRequest,
    HttpResponse,
    RpcContext,
    RpcHandler,
    StreamedResponse,
    StreamHandler,
)
from pyserving.core.errors import Code, ServingError

Metadata = Sequence[tuple[str, str]]

logger = logging.getLogger("pyserving.ray")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    content_type: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    streamed: bool = False
    """Its body comes after it, piece by piece."""


@dataclass(frozen=True, slots=True)
class RpcAnswer:
    """The message, or why there is none."""

    message: bytes = b""
    code: Code = Code.OK
    details: str = ""
    trailing_metadata: Metadata = ()


async def answer_http(handler: HttpHandler, request: HttpRequest) -> HttpAnswer:
    return _http_answer(await _handled(handler, request))


async def stream_http(handler: HttpHandler, request: HttpRequest) -> AsyncIterator[HttpAnswer | bytes]:
    """First the head, then the pieces of a streamed body; else the whole answer."""
    response = await _handled(handler, request)
    yield _http_answer(response)
    if isinstance(response, StreamedResponse):
        async with aclosing(response.pieces) as pieces:
            async for piece in pieces:
                yield piece


async def _handled(handler: HttpHandler, request: HttpRequest) -> HttpResponse:
    try:
        return await handler(request)
    except Exception as error:
        logger.error("A request failed", exc_info=error)
        return HttpResponse(500, b'{"error":"internal error"}')


def _http_answer(response: HttpResponse) -> HttpAnswer:
    streamed = isinstance(response, StreamedResponse)
    return HttpAnswer(response.status, response.content_type, tuple(response.headers), response.body, streamed)


async def call(handler: RpcHandler, message: bytes, metadata: Metadata) -> RpcAnswer:
    context = _context(metadata)
    try:
        return RpcAnswer(await handler(message, context), trailing_metadata=tuple(context.trailing_metadata))
    except Exception as error:
        return failure(error, context)


async def stream(handler: StreamHandler, message: bytes, metadata: Metadata) -> AsyncIterator[RpcAnswer]:
    """The answers as they come; a failure is the last one."""
    context = _context(metadata)
    try:
        async with aclosing(handler(_one(message), context)) as pieces:
            async for piece in pieces:
                yield RpcAnswer(piece)
    except Exception as error:
        yield failure(error, context)


def failure(error: Exception, context: RpcContext | None = None) -> RpcAnswer:
    """What a client is told of ``error``."""
    if not isinstance(error, ServingError):
        logger.error("A request failed", exc_info=error)
        error = ServingError(Code.INTERNAL, "internal error")
    metadata = list(context.trailing_metadata) if context else []
    if error.retry_after is not None:
        metadata.append(("grpc-retry-pushback-ms", str(max(1, round(error.retry_after * 1e3)))))
    return RpcAnswer(b"", error.code, error.message, metadata)


def _context(metadata: Metadata) -> RpcContext:
    # Ray tells no deadline: its proxy cancels the call instead when the client's has passed.
    context = RpcContext(None, metadata)
    context.priority = next((value for name, value in metadata if name == "x-priority"), "")
    return context


async def _one(message: bytes) -> AsyncIterator[bytes]:
    yield message
