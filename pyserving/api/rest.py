"""The REST interface: paths and JSON bodies of ``/v1/models/...``."""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from urllib.parse import unquote_to_bytes

import orjson
from google.protobuf.json_format import MessageToDict

from pyserving.api.access import OPEN, Need, Role
from pyserving.api.client_timeout import read_timeout
from pyserving.api.exchange import HttpHandler, HttpRequest, HttpResponse
from pyserving.api.health import Health
from pyserving.api.inference import classify, regress, serialized_examples
from pyserving.api.long_work import LONG_BODY, LONG_TENSORS, on_thread, size_of
from pyserving.api.models import Models, ModelSpec
from pyserving.api.predict import Engine, check_predict_method_name, find_rest_signature, predict
from pyserving.api.push import PushApi
from pyserving.api.request_log import LogType
from pyserving.api.rest_messages import classify_messages, predict_messages, regress_messages
from pyserving.api.rest_streaming import RestStreaming, framing_of
from pyserving.api.rollout import RolloutApi
from pyserving.api.status import StatusApi
from pyserving.api.status_name import status_name
from pyserving.api.tap import Tap
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState
from pyserving.monitoring.exposition import CONTENT_TYPE, write_page
from pyserving.monitoring.metrics import Family
from pyserving.monitoring.serving_metrics import FULL, ServingMetrics
from pyserving.wire.json_examples import parse_examples
from pyserving.wire.json_request import parse_predict
from pyserving.wire.json_writer import write_classes, write_error, write_predict, write_values

logger = logging.getLogger("pyserving.api")

HTTP_STATUS: Mapping[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

# The fixed parts of a path match in any case. The verb does too, as in the real server, but only a lower-case
# one is then known.
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_INFERENCE = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<verb>classify|regress|predict)", re.I | re.A)
_ROLLOUT = re.compile(r"/v1/models/(?P<name>[^/:]+):(?P<verb>promote|rollback|aspire)", re.A)
_RESOURCE = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<resource>metadata))?", re.I | re.A)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")

_CORS_HEADERS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)

_CORS_HEADERS_WITH_KEYS = (
    *_CORS_HEADERS[:-1],
    ("Access-Control-Allow-Headers", "Content-Type, Authorization, X-API-Key"),
)

_MAX_CACHED_ROUTES = 1024

_ROLES = {
    "predict": Role.PREDICT,
    "classify": Role.PREDICT,
    "regress": Role.PREDICT,
    "status": Role.READ,
    "metadata": Role.READ,
    "promote": Role.ADMIN,
    "rollback": Role.ADMIN,
    "aspire": Role.ADMIN,
}
"""What each action of a Route needs."""


Engines = Callable[[ServableId], Mapping[str, object]]
"""What there is to say of the engines of a version, by signature."""
Collect = Callable[[], Awaitable[Sequence[Family]]]
"""Returns all metrics as they are now."""


class HttpFront(Protocol):
    """Answers what is asked below a folder."""

    def need(self, method: str, target: str) -> Need:
        """What it takes to ask for this."""
        ...

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Raises ServingError."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """What a method and a path ask for."""

    action: str
    """``predict``, ``classify``, ``regress``, ``promote``, ``rollback``, ``aspire``, ``status``,
    ``metadata`` or ``preflight``."""
    spec: ModelSpec


_NO_ROUTE = Route("", ModelSpec(""))


class RestApi:
    """Answers the requests of the REST interface; ``handle`` is an HttpHandler."""

    def __init__(
        self,
        models: Models,
        status: StatusApi,
        executor: EngineExecutor,
        metrics: ServingMetrics,
        *,
        timeout: float,
        cors: bool = False,
        keys: bool = False,
        health: Health | None = None,
        engines: Engines = lambda _: {},
        metrics_path: str = "",
        metrics_need: Need = Need(Role.READ),  # noqa: B008
        collect: Collect | None = None,
        check_method_names: bool = False,
        taps: Mapping[str, Tap] = {},
        rollouts: RolloutApi | None = None,
        pushes: PushApi | None = None,
        rollout_report: Callable[[str], Mapping[str, object]] = lambda _: {},
        pages: Mapping[tuple[str, str], tuple[Need, HttpHandler]] = {},
        fronts: Mapping[str, HttpFront] = {},
    ) -> None:
        """``timeout``: the most that a request may take, in seconds. ``cors``: web pages of any origin may call,
        and with ``keys`` show API keys.

        With ``health``, ``/healthz``, ``/readyz`` and the list of all models at ``/v1/models`` are served, which the
        original does not have, and there ``engines`` tells of each version which engine serves its signatures, and
        why others do not; with ``metrics_path``, the page for Prometheus: of what ``collect`` returns, or else of
        ``metrics``. ``taps``: what looks on at the answers, by model; it may change at any time.
        ``check_method_names``: see Engine. ``pages``: what else is served and what that needs, by method and path.
        ``fronts``: who answers below other folders than ``/v1``, by the folder's name. With ``rollouts``, default
        versions can be moved, with ``pushes`` versions be aspired; ``rollout_report`` is what the list of models tells
        of a model's traffic.
        """

        def engine(api: str) -> Engine:
            return Engine(executor, metrics, api, check_method_names=check_method_names)

        self.headers: tuple[tuple[str, str], ...] = ()
        if cors:
            self.headers = _CORS_HEADERS_WITH_KEYS if keys else _CORS_HEADERS
        """Of every answer."""
        self._headers = self.headers
        self._models = models
        self._status = status
        self._metrics = metrics
        self._predict_engine = engine("Predict")
        self._classify_engine = engine("Classify")
        self._regress_engine = engine("Regress")
        self._streaming = RestStreaming(models, engine("PredictStreamed"), metrics, timeout, self._headers, taps)
        self._answers = {action: metrics.answers(action, "REST") for action in ("predict", "classify", "regress")}
        self._other_answers = metrics.answers("", "REST")
        self._collect = collect
        self._engines = engines
        self._timeout = timeout
        self._taps = taps
        self._rollouts = rollouts
        self._pushes = pushes
        self._rollout_report = rollout_report
        self._fronts = fronts
        self._routes: dict[tuple[str, str], Route] = {}
        self._pages: dict[tuple[str, str], HttpHandler] = {key: page for key, (_, page) in pages.items()}
        """What is served besides models: by method and path."""
        self._page_needs: dict[tuple[str, str], Need] = {key: need for key, (need, _) in pages.items()}
        if health is not None:
            self._add_page("/healthz", ("GET", "HEAD"), OPEN, self._alive)
            self._add_page("/readyz", ("GET", "HEAD"), OPEN, lambda _: self._ready(health))
            self._add_page("/v1/models", ("GET", "HEAD"), Need(Role.READ), lambda _: self._listing(health))
        if metrics_path:
            self._add_page(metrics_path, ("GET", "HEAD", "POST"), metrics_need, self._metrics_page)

    def _add_page(self, path: str, methods: Iterable[str], need: Need, page: HttpHandler) -> None:
        for method in methods:
            self._pages[method, path] = page
            self._page_needs[method, path] = need

    def need(self, method: str, target: str) -> Need:
        """What it takes to ask for this. Where there is nothing, a key that may read: others need not know."""
        if found := self._page_needs.get((method, target.partition("?")[0])):
            return found
        if method == "OPTIONS":  # browsers show no key with it, and its answer says nothing
            return OPEN
        if front := self._front(target):
            return front.need(method, target)
        try:
            route = self._routes.get((method, target)) or find_route(method, target)
        except ServingError:
            return Need(Role.READ)
        return Need(_ROLES.get(route.action, Role.ADMIN), names_model=True, model=route.spec.name)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        start = time.monotonic()
        route = self._routes.get((request.method, request.target)) or _NO_ROUTE
        try:
            if route is _NO_ROUTE:
                if page := self._pages.get((request.method, request.target.partition("?")[0])):
                    return await page(request)
                if front := self._front(request.target):
                    return await self._answer_by(front, request)
                route = self._route(request)
            if (accept := request.headers.get("accept")) and route.action == "predict":
                framing = framing_of(accept)
                if framing is not None:
                    return await self._streaming.answer(route.spec, request, framing)
            deadline = start + self._timeout
            if "grpc-timeout" in request.headers:
                deadline = min(deadline, start + read_timeout(request.headers["grpc-timeout"]))
            body = await self._answer(route, request, deadline)
        except BaseException as error:
            if request.target[:4].lower() == "/v1/":
                self._metrics.request_failed(route.spec.name, status_name(error))
            if not isinstance(error, ServingError):
                raise
            headers = self._headers
            if error.retry_after is not None:
                headers = (*headers, ("Retry-After", str(max(1, round(error.retry_after)))))
            return HttpResponse(HTTP_STATUS[error.code], write_error(error.message), headers=headers)
        recorder = self._answers.get(route.action, self._other_answers)
        answers = recorder[route.spec.name]
        answers.append(time.monotonic() - start)
        if len(answers) >= FULL:
            recorder.flush()
        return HttpResponse(200, body, headers=self._headers)

    async def _answer_by(self, front: HttpFront, request: HttpRequest) -> HttpResponse:
        if request.method == "OPTIONS":
            return HttpResponse(200, _preflight_body(request), headers=self._headers)
        answer = await front.handle(request)
        answer.headers = (*self._headers, *answer.headers)
        return answer

    def _front(self, target: str) -> HttpFront | None:
        folders = target.partition("?")[0].split("/", 2)
        return self._fronts.get(folders[1]) if len(folders) > 1 else None

    async def _answer(self, route: Route, request: HttpRequest, deadline: float) -> bytes:
        match route.action:
            case "predict":
                return await self._predict(route.spec, request, deadline)
            case "classify":
                return await self._classify(route.spec, request, deadline)
            case "regress":
                return await self._regress(route.spec, request, deadline)
            case "status":
                return self._status_body(route.spec)
            case "metadata":
                return await self._metadata_body(route.spec, deadline)
            case ("promote" | "rollback") as action if self._rollouts is not None:
                return await self._rollouts.answer(action, route.spec.name, request.body)
            case "aspire" if self._pushes is not None:
                return await self._pushes.answer(route.spec.name, request.body)
            case _:
                return _preflight_body(request)

    def _route(self, request: HttpRequest) -> Route:
        route = find_route(request.method, request.target)
        if len(self._routes) < _MAX_CACHED_ROUTES:
            self._routes[request.method, request.target] = route
        return route

    async def _predict(self, spec: ModelSpec, request: HttpRequest, deadline: float) -> bytes:
        body = request.body
        long = len(body) >= LONG_BODY
        if long:
            request.body = b""  # lest it is kept until the answer is there
        parsed = await on_thread(parse_predict, body) if long else parse_predict(body)
        del body
        try:
            acquired = self._models.acquire(spec, request.headers)
        except ServingError as error:
            await on_thread(parsed.check) if long else parsed.check()
            acquired = await self._models.loaded(spec, deadline, request.headers, error)
        with acquired as handle:
            try:
                signature = find_rest_signature(handle.servable, parsed.signature_name)
            except ServingError:
                await on_thread(parsed.check) if long else parsed.check()
                raise
            inputs, row = (
                await on_thread(parsed.tensors, signature.inputs) if long else parsed.tensors(signature.inputs)
            )
            del parsed
            check_predict_method_name(self._predict_engine, signature)
            priority = request.headers.get("x-priority", "")
            outputs = tuple(signature.outputs)
            results = await predict(self._predict_engine, handle, signature, inputs, outputs, deadline, priority)
            if size_of(results) >= LONG_TENSORS:
                answer = await on_thread(write_predict, results, row)
            else:
                answer = write_predict(results, row)
            if tap := self._taps.get(handle.id.name):
                tap.add(
                    LogType.PREDICT,
                    handle.id,
                    signature.name,
                    partial(predict_messages, spec, signature.name, inputs, handle.id, results),
                )
            return answer

    async def _classify(self, spec: ModelSpec, request: HttpRequest, deadline: float) -> bytes:
        body, priority = request.body, request.headers.get("x-priority", "")
        parsed = await on_thread(parse_examples, body) if len(body) >= LONG_BODY else parse_examples(body)
        with await self._models.acquired(spec, deadline, request.headers) as handle:
            examples = serialized_examples(parsed.examples, parsed.context)
            classes = await classify(self._classify_engine, handle, parsed.signature_name, examples, deadline, priority)
            answer = write_classes(classes.labels, classes.scores)
            if tap := self._taps.get(handle.id.name):
                tap.add(
                    LogType.CLASSIFY,
                    handle.id,
                    parsed.signature_name,
                    partial(classify_messages, spec, parsed, handle.id, classes),
                )
            return answer

    async def _regress(self, spec: ModelSpec, request: HttpRequest, deadline: float) -> bytes:
        body, priority = request.body, request.headers.get("x-priority", "")
        parsed = await on_thread(parse_examples, body) if len(body) >= LONG_BODY else parse_examples(body)
        with await self._models.acquired(spec, deadline, request.headers) as handle:
            examples = serialized_examples(parsed.examples, parsed.context)
            values = await regress(self._regress_engine, handle, parsed.signature_name, examples, deadline, priority)
            answer = write_values(values)
            if tap := self._taps.get(handle.id.name):
                tap.add(
                    LogType.REGRESS,
                    handle.id,
                    parsed.signature_name,
                    partial(regress_messages, spec, parsed, handle.id, values),
                )
            return answer

    async def _alive(self, _: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b'{"alive":true}', headers=self._headers)

    async def _ready(self, health: Health) -> HttpResponse:
        missing = health.missing()
        ready = not health.draining and not missing
        body = {"ready": ready, "draining": health.draining, "missing": list(missing), "reasons": missing}
        return HttpResponse(200 if ready else 503, orjson.dumps(body), headers=self._headers)

    async def _metrics_page(self, _: HttpRequest) -> HttpResponse:
        page = write_page(await self._collect() if self._collect else self._metrics.collect())
        return HttpResponse(200, page, CONTENT_TYPE, headers=self._headers)

    async def _listing(self, health: Health) -> HttpResponse:
        models = {
            name: self._listed(self._status.known_states(name)) | dict(self._rollout_report(name))
            for name in health.models()
        }
        return HttpResponse(200, orjson.dumps({"models": models}), headers=self._headers)

    def _listed(self, states: Sequence[ServableState]) -> dict[str, object]:
        listed = _status_of(states)
        engines = {str(state.id.version): engines for state in states if (engines := self._engines(state.id))}
        return listed | {"engines": engines} if engines else listed

    def _status_body(self, spec: ModelSpec) -> bytes:
        return orjson.dumps(_status_of(self._status.states(spec)))

    async def _metadata_body(self, spec: ModelSpec, deadline: float) -> bytes:
        with await self._models.acquired(spec, deadline) as handle:
            signatures = {
                name: MessageToDict(
                    definition,
                    preserving_proto_field_name=True,
                    always_print_fields_with_no_presence=True,
                )
                for name, definition in handle.servable.signature_defs.items()
            }
            return orjson.dumps(
                {
                    "model_spec": {"name": handle.id.name, "signature_name": "", "version": str(handle.id.version)},
                    "metadata": {"signature_def": {"signature_def": signatures}},
                }
            )


def _status_of(states: Iterable[ServableState]) -> dict[str, object]:
    return {
        "model_version_status": [
            {
                "version": str(state.id.version),
                "state": state.state.name,
                "status": {
                    "error_code": state.error.code.name if state.error else "OK",
                    "error_message": state.error.message if state.error else "",
                },
            }
            for state in states
        ]
    }


def find_route(method: str, target: str) -> Route:
    """The route of a request. Raises NOT_FOUND outside of ``/v1/``, else INVALID_ARGUMENT."""
    if target[:4].lower() != "/v1/":
        raise ServingError(Code.NOT_FOUND, f"nothing is served at {target}; models are at /v1/models/NAME")
    if _BAD_ESCAPE.search(target):
        raise invalid_argument(f"the path holds a % that no two hexadecimal digits follow: {target}")
    if method == "POST":
        match = _INFERENCE.fullmatch(target)
        if match and match["verb"].islower():
            return Route(match["verb"], _spec(match))
        if match := _ROLLOUT.fullmatch(target):
            return Route(match["verb"], ModelSpec(_unquote(match["name"])))
    elif method == "GET":
        match = _RESOURCE.fullmatch(target)
        if match:
            return Route("metadata" if match["resource"] == "metadata" else "status", _spec(match))
    elif method == "OPTIONS":
        return Route("preflight", ModelSpec(""))
    raise invalid_argument(f"Malformed request: {method} {target}")


def _preflight_body(request: HttpRequest) -> bytes:
    """Browsers ask before they send; the answer lies in the headers."""
    if not re.search("https?://", request.headers.get("origin", "")):
        raise ServingError(Code.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")
    return b""


def _spec(match: re.Match[str]) -> ModelSpec:
    if match["name"] is None:
        raise invalid_argument("Missing model name in request.")
    version = None
    if match["version"] is not None:
        version = int(match["version"]) if len(match["version"]) < 64 else 1 << 64
        if version >= 1 << 63:
            raise invalid_argument(f"Failed to convert version: {match['version']} to numeric.")
    label = match["label"]
    return ModelSpec(_unquote(match["name"]), version, None if label is None else _unquote(label))


def _unquote(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise invalid_argument(f"{text} in the path is not percent-encoded UTF-8") from None
