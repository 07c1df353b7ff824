"""The web console on the REST port: its page at ``/``, what that asks for at ``/console/api``; ``/openapi.json``."""

import platform
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson

import pyserving
from pyserving.api.access import OPEN, Access, Need, Role
from pyserving.api.exchange import HttpHandler, HttpRequest, HttpResponse
from pyserving.api.health import Health
from pyserving.api.models import Models, ModelSpec
from pyserving.api.openapi import ServedModel, openapi_document
from pyserving.api.own_page import is_asked_at_loopback
from pyserving.api.rest import Collect
from pyserving.api.rpc import Reload
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.monitoring.summary import summarise
from pyserving.platforms.model import Signature, TensorSpec
from pyserving.protos import messages
from pyserving.server.console_files import console_files
from pyserving.server.console_model import ConsoleModels, Json
from pyserving.server.directory import Directory
from pyserving.server.event_log import EventLog
from pyserving.server.ports import Ports
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig, config_of
from pyserving.sources.text_proto import parse_text_proto, write_text_proto
from pyserving.transport.listener import port_of
from pyserving.wire.json_tensors import READABLE

API = "/console/api"

_HEADERS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class Console:
    """Used on one event loop."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        health: Health,
        collect: Collect,
        reload: Reload,
        shown: ConsoleModels,
        access: Access,
    ) -> None:
        """To be made before the first event, for the log of them."""
        self._settings = settings
        self._directory = directory
        self.models = Models(directory.serving, directory.labels)
        self._health = health
        self._collect = collect
        self._reload = reload
        self._shown = shown
        self._access = access
        self._grpc_port: int | None = None
        self._events = EventLog(directory)

    def pages(self, ports: Ports) -> Mapping[tuple[str, str], tuple[Need, HttpHandler]]:
        """What answers a request, and what that needs, on a server that has these ports: by method and path.

        Handlers raise ServingError.
        """
        self._grpc_port = port_of(ports.grpc[0]) if ports.grpc else None
        pages: dict[tuple[str, str], tuple[Need, HttpHandler]] = {}
        read, admin = Need(Role.READ), Need(Role.ADMIN)
        for path, handler in console_files().items():
            pages["GET", path] = pages["HEAD", path] = OPEN, handler
        pages["GET", f"{API}/live"] = read, _json(self._live)
        pages["GET", f"{API}/signatures"] = read, _json(self._signatures)
        pages["GET", f"{API}/config"] = admin, _json(self._config)
        pages["POST", f"{API}/config"] = admin, _json(self._apply_config)
        pages["GET", "/openapi.json"] = read, _json(self._openapi)
        return pages

    async def _live(self, request: HttpRequest) -> Json:
        """All that changes by itself. ``?after=SECONDS``: of the events, only those later than that."""
        try:
            after = float(_query(request).get("after", "0"))
        except ValueError:
            raise invalid_argument("Expected the time of the last known event in seconds, as in ?after=0") from None
        return {
            "server": {
                "version": pyserving.__version__,
                "python": platform.python_version(),
                "now": time.time(),
                "ready": self._health.ready,
                "draining": self._health.draining,
                "grpc_port": self._grpc_port,
                "grpc_tls": bool(self._settings.grpc_ssl_config_file or self._settings.tls_files),
                "metrics_path": self._settings.metrics_path,
                "admin": self._may_admin(request),
            },
            "models": self._shown.to_json(),
            "metrics": summarise(await self._collect()),
            "events": [
                {"when": event.when, "model": event.model, "version": event.version, "state": event.state}
                | ({"text": event.text} if event.text else {})
                for event in self._events.after(after)
            ],
        }

    async def _signatures(self, request: HttpRequest) -> Json:
        """Of one model: ``?model=NAME``, also ``&version=NUMBER`` or ``&label=LABEL``. Raises NOT_FOUND."""
        query = _query(request)
        version = query.get("version")
        if version is not None and not (version.isascii() and version.isdigit() and len(version) < 20):
            raise invalid_argument(f"Expected the number of a version, got {version}")
        spec = ModelSpec(query.get("model", ""), None if version is None else int(version), query.get("label"))
        with await self.models.acquired(spec, time.monotonic() + self._settings.rest_timeout) as handle:
            signatures = [_signature(one) for one in handle.servable.signatures.values()]
            return {"model": handle.id.name, "version": handle.id.version, "signatures": signatures}

    async def _config(self, request: HttpRequest) -> Json:
        self._require_admin(request)
        return {"config": write_text_proto(config_of(self._directory.models))}

    async def _apply_config(self, request: HttpRequest) -> Json:
        """Makes the config in the body, ``{"config": TEXT}``, true, as HandleReloadConfigRequest does."""
        self._require_admin(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise invalid_argument('Expected {"config": ...} with Content-Type: application/json')
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("config"), str):
            raise invalid_argument('Expected {"config": a ModelServerConfig in text format}')
        await self._reload(parse_text_proto(body["config"], messages.ModelServerConfig))
        return {"config": write_text_proto(config_of(self._directory.models))}

    async def _openapi(self, _: HttpRequest) -> Json:
        settings = self._settings
        models = [self._served(model) for model in self._directory.models]
        return openapi_document(
            models,
            health=settings.health,
            metrics_path=settings.metrics_path,
            keys=self._access.asks_for_keys,
            oip=settings.open_inference_protocol,
        )

    def _served(self, model: ModelConfig) -> ServedModel:
        name = model.name
        versions: dict[int, Mapping[str, Signature]] = {}
        for version in self._directory.serving.available(name):
            try:
                handle = self.models.acquire(ModelSpec(name, version))
            except ServingError:  # it went just now
                continue
            with handle:
                versions[version] = handle.servable.signatures
        default = self._directory.serving.default(name)
        return ServedModel(name, versions, self._directory.labels.of(name), default, model.is_pushed)

    def _may_admin(self, request: HttpRequest) -> bool:
        """Whether to show who asks that the config may be changed.

        Where no key tells who it is, it must be a browser on this machine (see Access) that asks by such a name:
        another site's page that runs in it could have its own name lead here.
        """
        if self._access.asks_for_keys:
            return self._access.has_role(Role.ADMIN, request.headers)
        return is_asked_at_loopback(request.headers)

    def _require_admin(self, request: HttpRequest) -> None:
        """Who came so far has the role, or is on this machine and no page of another site."""
        if not self._may_admin(request):
            raise ServingError(
                Code.PERMISSION_DENIED,
                f"Without API keys, the config may be changed only at localhost, got {request.headers.get('host', '')}",
            )


def _json(answer: Callable[[HttpRequest], Coroutine[Any, Any, Json]]) -> HttpHandler:
    async def handle(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, orjson.dumps(await answer(request)), headers=_HEADERS)

    return handle


def _query(request: HttpRequest) -> dict[str, str]:
    """The last value of each name in the query."""
    query = parse_qs(request.target.partition("?")[2], keep_blank_values=True)
    return {name: values[-1] for name, values in query.items()}


def _signature(signature: Signature) -> Json:
    def tensor(spec: TensorSpec) -> Json:
        shape = None if spec.shape is None else list(spec.shape)
        return {"name": spec.name, "dtype": spec.dtype.text, "enum": f"DT_{spec.dtype.name}", "shape": shape}

    inputs = [tensor(spec) | {"json": spec.dtype in READABLE} for spec in signature.inputs.values()]
    return {
        "name": signature.name,
        "method": signature.method_name,
        "streams": signature.streams,
        "inputs": inputs,
        "outputs": [tensor(spec) for spec in signature.outputs.values()],
    }
