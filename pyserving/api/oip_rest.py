"""The Open Inference Protocol over REST: the paths below ``/v2``."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import orjson

from pyserving.api.access import OPEN, Need, Role
from pyserving.api.client_timeout import read_timeout
from pyserving.api.exchange import HttpRequest, HttpResponse
from pyserving.api.json_object import read_object
from pyserving.api.long_work import LONG_BODY, LONG_MESSAGE, on_thread
from pyserving.api.models import ModelSpec
from pyserving.api.oip_inference import OipInference
from pyserving.api.oip_models import model_spec, tensor_metadata
from pyserving.api.oip_repository import OipRepository
from pyserving.api.oip_server import EXTENSIONS, NAME, OipServer, config_of
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.wire.oip_json import Body, parse_infer, write_infer

_HEADER_LENGTH = "Inference-Header-Content-Length"
_MAX_CACHED_ROUTES = 1024


@dataclass(frozen=True, slots=True)
class _Target:
    """What a path names."""

    spec: ModelSpec
    name: str


Answer = Callable[[HttpRequest, _Target], Awaitable[HttpResponse]]


@dataclass(frozen=True, slots=True)
class _Route:
    methods: Sequence[str]
    path: re.Pattern[str]
    role: Role | None
    answer: Answer


def _path(text: str) -> re.Pattern[str]:
    """``MODEL`` in it stands for a model's name and perhaps a version, ``NAME`` for a name alone."""
    name = r"(?P<name>[^/]+)"
    return re.compile(text.replace("MODEL", rf"{name}(?:/versions/(?P<version>[^/]+))?").replace("NAME", name), re.A)


class OipRest:
    """Answers what is asked below ``/v2``; a front of RestApi."""

    def __init__(
        self,
        server: OipServer,
        inference: OipInference,
        repository: OipRepository,
        metrics: ServingMetrics,
        *,
        timeout: float,
    ) -> None:
        """``timeout``: the most that a request may take, in seconds."""
        self._server = server
        self._inference = inference
        self._repository = repository
        self._timeout = timeout
        self._recorder = metrics.answers("ModelInfer", "REST")
        self._found: dict[tuple[str, str], tuple[_Route, _Target]] = {}
        get = ("GET", "HEAD")
        self._routes = (
            _Route(get, _path("/v2/health/live"), None, self._live),
            _Route(get, _path("/v2/health/ready"), None, self._ready),
            _Route(get, _path("/v2/?"), Role.READ, self._server_metadata),
            _Route(("POST",), _path("/v2/models/MODEL/infer"), Role.PREDICT, self._infer),
            _Route(get, _path("/v2/models/MODEL/ready"), Role.READ, self._model_ready),
            _Route(get, _path("/v2/models/stats"), Role.READ, self._statistics),
            _Route(get, _path("/v2/models/MODEL/stats"), Role.READ, self._statistics),
            _Route(get, _path("/v2/models/MODEL/config"), Role.READ, self._model_config),
            _Route(get, _path("/v2/models/MODEL/?"), Role.READ, self._model_metadata),
            _Route(("POST",), _path("/v2/repository/index"), Role.READ, self._index),
            _Route(("POST",), _path("/v2/repository/models/NAME/load"), Role.ADMIN, self._load),
            _Route(("POST",), _path("/v2/repository/models/NAME/unload"), Role.ADMIN, self._unload),
        )

    def need(self, method: str, target: str) -> Need:
        """What it takes to ask for this. Where there is nothing, a key that may read: others need not know."""
        try:
            route, named = self._route(method, target)
        except ServingError:
            return Need(Role.READ)
        if route.role is None:
            return OPEN
        return Need(route.role, names_model=bool(named.name), model=named.name)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Raises ServingError."""
        route, named = self._route(request.method, request.target)
        return await route.answer(request, named)

    def _route(self, method: str, target: str) -> tuple[_Route, _Target]:
        if found := self._found.get((method, target)):
            return found
        path = target.partition("?")[0]
        for route in self._routes:
            if method in route.methods and (match := route.path.fullmatch(path)):
                groups = match.groupdict()
                name, version = _unquote(groups.get("name")), _unquote(groups.get("version"))
                found = route, _Target(model_spec(name, version), name)
                if len(self._found) < _MAX_CACHED_ROUTES:
                    self._found[method, target] = found
                return found
        raise ServingError(Code.NOT_FOUND, f"nothing is served at {method} {target}; models are at /v2/models/NAME")

    async def _infer(self, request: HttpRequest, target: _Target) -> HttpResponse:
        start = time.monotonic()
        try:
            deadline = start + self._timeout
            if "grpc-timeout" in request.headers:
                deadline = min(deadline, start + read_timeout(request.headers["grpc-timeout"]))
            _check_encoding(request.headers)
            body, json_size = request.body, _json_size(request.headers)
            long = len(body) >= LONG_BODY
            if long:
                request.body = b""  # lest it is kept longer than its tensors
            asked = await on_thread(parse_infer, body, json_size) if long else parse_infer(body, json_size)
            del body
            priority = request.headers.get("x-priority", "")
            answer = await self._inference.infer(
                target.spec,
                asked,
                request.headers,
                deadline,
                priority,
                lambda servable, results: write_infer(servable, asked, results),
                time.monotonic() - start,
            )
            response = await _response(answer)
        except BaseException as error:
            self._inference.failed(target.name, error)
            raise
        self._recorder.add(target.name, time.monotonic() - start)
        return response

    async def _live(self, _: HttpRequest, __: _Target) -> HttpResponse:
        return _json({"live": self._server.live})

    async def _ready(self, _: HttpRequest, __: _Target) -> HttpResponse:
        ready = self._server.ready
        return _json({"ready": ready}, 200 if ready else 503)

    async def _server_metadata(self, _: HttpRequest, __: _Target) -> HttpResponse:
        return _json({"name": NAME, "version": self._server.version, "extensions": EXTENSIONS})

    async def _model_ready(self, _: HttpRequest, target: _Target) -> HttpResponse:
        ready = self._server.model_ready(target.spec)
        return _json({"name": target.name, "ready": ready}, 200 if ready else 503)

    async def _model_metadata(self, _: HttpRequest, target: _Target) -> HttpResponse:
        facts = await self._server.facts(target.spec, time.monotonic() + self._timeout)
        return _json(
            {
                "name": facts.id.name,
                "versions": facts.versions,
                "platform": facts.platform,
                "inputs": [tensor_metadata(spec) for spec in facts.signature.inputs.values()],
                "outputs": [tensor_metadata(spec) for spec in facts.signature.outputs.values()],
            }
        )

    async def _model_config(self, _: HttpRequest, target: _Target) -> HttpResponse:
        return _json(config_of(await self._server.facts(target.spec, time.monotonic() + self._timeout)))

    async def _statistics(self, _: HttpRequest, target: _Target) -> HttpResponse:
        found = await self._server.statistics(target.spec if target.name else None)
        return _json({"model_stats": [statistics.document(servable) for servable, statistics in found.items()]})

    async def _load(self, request: HttpRequest, target: _Target) -> HttpResponse:
        await self._repository.load(target.name, await _repository_parameters(request.body))
        return _json({})

    async def _unload(self, request: HttpRequest, target: _Target) -> HttpResponse:
        await self._repository.unload(target.name, await _repository_parameters(request.body))
        return _json({})

    async def _index(self, request: HttpRequest, _: _Target) -> HttpResponse:
        body = await read_object(request.body)
        ready = body.get("ready", False)
        if not isinstance(ready, bool):
            raise invalid_argument(f"Expected ready to be true or false, got {ready!r}")
        return _json([line._asdict() for line in self._server.index(ready=ready)])


async def _response(answer: Body) -> HttpResponse:
    size = sum(map(len, answer.parts))
    body = await on_thread(b"".join, answer.parts) if size >= LONG_MESSAGE else b"".join(answer.parts)
    if size == answer.json_size:
        return HttpResponse(200, body)
    return HttpResponse(200, body, "application/octet-stream", ((_HEADER_LENGTH, str(answer.json_size)),))


def _json(document: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, orjson.dumps(document))


async def _repository_parameters(body: bytes) -> Mapping[str, object]:
    parameters = (await read_object(body)).get("parameters", {})
    if not isinstance(parameters, dict):
        raise invalid_argument(f"Expected parameters to be an object, got {str(parameters)[:80]}")
    return parameters


def _check_encoding(headers: Mapping[str, str]) -> None:
    """Raises UNIMPLEMENTED for a body that nobody has decompressed."""
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity") and "gzip" not in encoding:
        raise ServingError(Code.UNIMPLEMENTED, f"Expected a body with gzip or as it is, got {encoding[:40]}")


def _json_size(headers: Mapping[str, str]) -> int | None:
    text = headers.get(_HEADER_LENGTH.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise invalid_argument(f"Expected {_HEADER_LENGTH} to be a number of bytes, got {text[:40]!r}")
    return int(text)


def _unquote(text: str | None) -> str:
    try:
        return unquote_to_bytes(text or "").decode()
    except UnicodeDecodeError:
        raise invalid_argument(f"{text} in the path is not percent-encoded UTF-8") from None
