"""Where requests come in: finds the model that each is for, and asks a replica of it."""

import asyncio
import contextlib
import logging
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import unquote

import grpc
import orjson
from google.protobuf.message import DecodeError
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pyserving.api.access import RPC_NEEDS
from pyserving.api.exchange import HttpRequest
from pyserving.api.rest import HTTP_STATUS
from pyserving.api.rest_streaming import framing_of
from pyserving.core.errors import Code, ServingError
from pyserving.core.state import ServableState, State
from pyserving.protos import messages
from pyserving.ray.answers import HttpAnswer, Metadata, RpcAnswer, answer_http, call, failure, stream
from pyserving.ray.replica import Refusals, read_models
from pyserving.ray.services import METHODS, STREAMING_METHODS
from pyserving.server.directory import Directory
from pyserving.server.front import Front
from pyserving.server.settings import Settings
from pyserving.transport.body import BodyTooLarge, GzipBody, PlainBody
from pyserving.transport.grpc_codec import encode_message
from pyserving.wire.json_writer import write_error

_ATTEMPTS = 3
"""How often a request is given to a replica, where replicas die over it."""
_LOOK_SECONDS = 2.0
"""Within which a replica of a model has to tell how it is."""
_OVERVIEWS = ("/readyz", "/v2/health/ready", "/v2/repository/index")
"""Paths that tell of all models."""
_RPC_OVERVIEWS = (
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/RepositoryIndex",
    "/inference.GRPCInferenceService/ServerReady",
)
"""Methods that do."""

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}

T = TypeVar("T")

logger = logging.getLogger("pyserving.ray")


class Message:
    """Bytes that Ray may take for a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf calls it so
        return self._data


class Ingress:
    """The deployment that Ray's proxies hand all requests to.

    A request for a model goes to a replica of that model as it came, and what comes back is the answer. All others are
    answered here, by the same api over what is known of the models' states.
    """

    async def __init__(self, settings: Settings, config: bytes, models: Mapping[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        """``config``: of all models (ModelServerConfig); ``models``: the handle of each one's deployment, by name."""
        self._models = models
        self._timeout = settings.rest_timeout
        self._limits = settings.http_limits
        refusals = Refusals()
        self._directory = Directory(read_models(config))
        self._handlers = Front(settings, self._directory, refusals.reload, refusals).handlers()

    async def __call__(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except ServingError as error:
            headers = {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}
            return Response(write_error(error.message), HTTP_STATUS[error.code], headers, "application/json")
        except BodyTooLarge as refusal:
            return Response(write_error(str(refusal)), 413, media_type="application/json")
        except Exception as error:
            logger.error("A request failed", exc_info=error)
            return Response(write_error("internal error"), 500, media_type="application/json")

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("latin-1")
        target = path.removeprefix(request.scope.get("root_path", ""))  # where the application is not at /
        if query := request.scope["query_string"].decode("latin-1"):
            target = f"{target}?{query}"
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        body = await self._unpacked(await request.body(), headers.get("content-encoding", ""))
        asked = (request.method, target, headers, body)
        need = self._handlers.rest.need(request.method, target)
        name = need.model if need.names_model else ""
        if name not in self._models:
            return _response(await self._answer_here(HttpRequest(*asked)))
        model = self._models[name]
        if target.endswith(":predict") and framing_of(headers.get("accept", "*/*")):
            head, pieces = await self._in_time(
                lambda: _begun(model.options(stream=True).stream_http.remote(*asked)), name
            )
            if head.streamed:
                return _headed(StreamingResponse(pieces, head.status), head)
            return _response(head)
        return _response(await self._in_time(lambda: model.http.remote(*asked), name))

    async def _answer_here(self, request: HttpRequest) -> HttpAnswer:
        path = request.target.partition("?")[0]
        if path == "/v1/models" and request.method in ("GET", "HEAD"):
            return await self._listing()
        if path in _OVERVIEWS:
            await self._look_round()
        return await answer_http(self._handlers.http, request)

    async def _unpacked(self, body: bytes, encoding: str) -> bytes:
        """The body, gunzipped where it has to be. Raises BodyTooLarge."""
        unpacking = GzipBody(self._limits) if "gzip" in encoding.lower() else PlainBody(self._limits, len(body))
        unpacking.add(body)
        return await asyncio.to_thread(unpacking.finish) if unpacking.deferred else unpacking.finish()

    async def _in_time(self, ask: Callable[[], Awaitable[T]], name: str) -> T:
        """The answer, if it comes in the time that a REST request may take."""
        try:
            async with asyncio.timeout(self._timeout + 1):  # a replica tells better what was too slow
                return await _asked(ask, name)
        except TimeoutError:
            raise ServingError(
                Code.DEADLINE_EXCEEDED, f"No replica of model {name} answered within {self._timeout:g} s"
            ) from None

    async def rpc(self, path: str, message: bytes, metadata: Metadata) -> RpcAnswer:
        """Answers a call of a method with one answer."""
        name = _model_of(path, message)
        try:
            if name in self._models:
                model = self._models[name]
                return await _asked(lambda: model.rpc.remote(path, message, metadata), name)
            if path in _RPC_OVERVIEWS:
                await self._look_round()
            return await call(self._handlers.methods[path], message, metadata)
        except Exception as error:
            return failure(error)

    async def rpc_stream(self, path: str, message: bytes, metadata: Metadata) -> AsyncIterator[RpcAnswer]:
        """Answers a call of a method that streams."""
        name = _model_of(path, message)
        if name not in self._models:
            async for answer in stream(self._handlers.streaming[path], message, metadata):
                yield answer
            return
        model = self._models[name].options(stream=True)
        try:
            answer, answers = await _asked(lambda: _begun(model.rpc_stream.remote(path, message, metadata)), name)
            while True:
                yield answer
                # What was answered in part is not asked again.
                answer = await _asked(lambda: anext(answers), name, attempts=1)
        except StopAsyncIteration:
            pass
        except Exception as error:
            yield failure(error)

    async def _look_round(self) -> None:
        """Learns the states of all models."""
        for states in await asyncio.gather(*(self._states(name) for name in self._models)):
            for state in states:
                self._directory.bus.post(state)
        self._directory.bus.deliver()

    async def _states(self, name: str) -> Sequence[ServableState]:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                told: Sequence[ServableState] = await _asked(lambda: self._models[name].states.remote(), name)
                why = None
        except (TimeoutError, ServingError):
            told, why = [], ServingError(Code.UNAVAILABLE, f"No replica of model {name} answers")
        there = {state.id for state in told}
        known = self._directory.monitor.states(name)
        gone = (state.id for state in known if state.id not in there and state.state is not State.END)
        return [*told, *(ServableState(servable, State.END, time.time(), why) for servable in gone)]

    async def _listing(self) -> HttpAnswer:
        """The lists of all models' replicas as one."""
        asked = HttpRequest("GET", "/v1/models", {}, b"")
        await self._look_round()
        here = await answer_http(self._handlers.http, asked)
        listed = orjson.loads(here.body)["models"]

        async def add(name: str) -> None:
            with contextlib.suppress(TimeoutError, ServingError):  # what is known here says so
                async with asyncio.timeout(_LOOK_SECONDS):
                    answer = await _asked(lambda: self._models[name].http.remote("GET", "/v1/models", {}, b""), name)
                    listed.update(orjson.loads(answer.body)["models"])

        await asyncio.gather(*(add(name) for name in self._models))
        return replace(here, body=orjson.dumps({"models": listed}))


def _unary(path: str) -> Callable[..., Awaitable[Message]]:
    async def method(self: Ingress, request: bytes, grpc_context: Any) -> Message:
        answer = await self.rpc(path, request, _metadata(grpc_context))
        return _message(answer, grpc_context)

    return method


def _streaming(path: str) -> Callable[..., AsyncIterator[Message]]:
    async def method(self: Ingress, request: bytes, grpc_context: Any) -> AsyncIterator[Message]:
        async for answer in self.rpc_stream(path, request, _metadata(grpc_context)):
            if answer.code is not Code.OK:
                _message(answer, grpc_context)
                raise StreamFailed(answer.details)
            yield _message(answer, grpc_context)

    return method


for _name, _path in METHODS.items():
    setattr(Ingress, _name, _unary(_path))
for _name, _path in STREAMING_METHODS.items():
    setattr(Ingress, _name, _streaming(_path))


class StreamFailed(Exception):  # noqa: N818 - of the client's view
    """Ends a stream with the status that its context has."""


def _metadata(context: Any) -> Metadata:
    """As ``RpcContext`` has it: grpcio has decoded what is binary."""
    return [
        (name, value if isinstance(value, str) else b64encode(value).rstrip(b"=").decode())
        for name, value in context.invocation_metadata()
    ]


def _message(answer: RpcAnswer, context: Any) -> Message:
    if answer.code is not Code.OK:
        context.set_code(_STATUS_CODES[answer.code])
        context.set_details(unquote(encode_message(answer.details).decode()))  # cut, where clients would not take it
    if answer.trailing_metadata:
        context.set_trailing_metadata(list(answer.trailing_metadata))
    return Message(answer.message)


def _response(answer: HttpAnswer) -> Response:
    return _headed(Response(answer.body, answer.status), answer)


def _headed(response: Response, answer: HttpAnswer) -> Response:
    # Not as its media type, to which it would add a charset.
    response.headers["content-type"] = answer.content_type
    for name, value in answer.headers:
        response.headers.append(name, value)
    return response


def _model_of(path: str, message: bytes) -> str:
    """The model that a call is for; empty where it names none, or cannot be read: the api tells what is wrong."""
    if not RPC_NEEDS[path].names_model:
        return ""
    try:
        if path.startswith("/inference."):
            return messages.ModelReadyRequest.FromString(message).name
        if path.endswith("/MultiInference"):
            tasks = messages.MultiInferenceRequest.FromString(message).tasks
            return tasks[0].model_spec.name if tasks else ""
        # Every other request has its ModelSpec where this one has it.
        return messages.GetModelStatusRequest.FromString(message).model_spec.name
    except DecodeError:
        return ""


async def _begun(pieces: AsyncIterator[Any]) -> tuple[Any, AsyncIterator[Any]]:
    """The first piece, and those that are left."""
    return await anext(pieces), pieces


async def _asked(ask: Callable[[], Awaitable[T]], name: str, *, attempts: int = _ATTEMPTS) -> T:
    """What a replica answers, or another one where that dies over it.

    Raises RESOURCE_EXHAUSTED where too many requests wait, UNAVAILABLE where no replica lives to answer.
    """
    for attempt in range(1, attempts + 1):
        try:
            return await ask()
        except BackPressureError as error:
            raise ServingError(Code.RESOURCE_EXHAUSTED, error.message) from None
        except DeploymentUnavailableError as error:
            raise ServingError(Code.UNAVAILABLE, error.message) from None
        except (RayTaskError, TaskCancelledError):  # a bug, or the client has gone
            raise
        except RayError as error:
            logger.warning("A replica of model %s was lost with a request (%s)", name, type(error).__name__)
            if attempt == attempts:
                raise ServingError(
                    Code.UNAVAILABLE, f"The replica of model {name} that had this request was lost"
                ) from None
    raise AssertionError
