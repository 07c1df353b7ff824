"""What answers requests: the api over a Directory, on the ports of a server."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

from pyserving.api.access import OPEN, Access, Keys, Need, Role
from pyserving.api.cold_start import ColdStart, Wakes
from pyserving.api.composition import Composition
from pyserving.api.exchange import HttpGuard, HttpHandler, Peer, RpcHandler, StreamHandler
from pyserving.api.health_rpc import HealthRpc
from pyserving.api.models import Models
from pyserving.api.open_inference import OpenInference
from pyserving.api.prediction_methods import PredictionMethods
from pyserving.api.push import PushApi, Pushes
from pyserving.api.reflection import Reflection
from pyserving.api.request_log import model_logs
from pyserving.api.rest import Collect, RestApi
from pyserving.api.rollout import RolloutApi, Rollouts
from pyserving.api.rpc import Reload, RpcApi
from pyserving.api.status import StatusApi
from pyserving.api.tap import Tap, Taps
from pyserving.batching.executor import EngineExecutor
from pyserving.batching.parameters import BatchingPolicies
from pyserving.core.time_slice import wake_at_once
from pyserving.monitoring.metrics import Family
from pyserving.monitoring.process import add_process_metrics
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.server.admission import new_admission, new_request_memory, terms_of
from pyserving.server.aside import Aside
from pyserving.server.console import Console
from pyserving.server.console_model import ConsoleModels
from pyserving.server.directory import Directory
from pyserving.server.key_file import read_api_keys
from pyserving.server.loaders import Loaders, accelerator_of
from pyserving.server.mirror import Mirrors
from pyserving.server.ports import Ports, Tls
from pyserving.server.readiness import follow
from pyserving.server.reloading import Reloading
from pyserving.server.request_log_writer import RequestLogWriter
from pyserving.server.residency import LoadWaits
from pyserving.server.rollout_rules import splits
from pyserving.server.seeing import Seeing
from pyserving.server.settings import Settings
from pyserving.server.state_metrics import (
    add_acceleration_metrics,
    add_access_metrics,
    add_front_metrics,
    add_process_model_metrics,
)
from pyserving.server.tls import ServerTls
from pyserving.server.warmup import Warmup
from pyserving.transport.balance import Seat
from pyserving.transport.grpc import GrpcConnection
from pyserving.transport.http1 import Http1Server
from pyserving.transport.listener import Connection, Connections, Listener

NewConnection = Callable[[Connections], Connection]

NUM_PLACES = 3
"""Listeners of a server: gRPC over TCP and over a UNIX socket, REST."""

_SWITCH_SECONDS = 200e-6
"""How long another thread keeps the GIL when the event loop waits for it; with Python's 5 ms every request that comes
while a load looks through its graph would wait so long, more than once."""

logger = logging.getLogger("pyserving.server")


@dataclass(frozen=True, slots=True)
class Handlers:
    """What answers requests, whichever way they come."""

    rest: RestApi
    http: HttpHandler
    """``rest``, observed if that is wanted."""
    methods: Mapping[str, RpcHandler]
    """gRPC methods by full name."""
    streaming: Mapping[str, StreamHandler]


class Operations(Rollouts, Pushes, Protocol):
    """What administrators may ask for besides a reload."""


class Front:
    """Answers requests from a Directory. To be made and used inside a running event loop.

    ``loaders`` makes the loaders of versions that it is to serve: they count and warm up as requests do.
    """

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        reload: Reload,
        operations: Operations,
        collect: Collect | None = None,
    ) -> None:
        """``reload`` makes a new config true; ``operations`` is what else administrators
        may ask for.

        ``collect`` returns the metrics to show, by default this Front's own.
        """
        sys.setswitchinterval(_SWITCH_SECONDS)
        policies = BatchingPolicies(settings.batching, settings.never_automatic)
        self.metrics = ServingMetrics(directory.has_model)
        self._admission = new_admission(settings.admission, self.metrics.registry)
        self._request_memory = new_request_memory(settings.request_memory, settings.workers, self.metrics.registry)
        self._executor = EngineExecutor(
            settings.engine_threads, policies, self.metrics.requests_waited, admission=self._admission
        )
        self._request_log_writer = RequestLogWriter()
        self._taps: dict[str, Tap] = {}
        self.aside = Aside("pyserving-aside", in_background=True, check_method_names=settings.check_method_names)
        self.mirrors = Mirrors(directory, self.aside, self.metrics.registry, self._tap)
        self._rollouts = RolloutApi(operations)
        self._pushes = PushApi(operations)
        self._warmup_executor = EngineExecutor(1, policies, self.metrics.requests_waited, in_background=True)
        self._warmup = Warmup(
            PredictionMethods(self._warmup_executor, self.metrics, check_method_names=settings.check_method_names),
            self.metrics,
            iterations=settings.warmup_iterations,
        )
        self._models = models = Models(directory.serving, directory.labels)
        composition = Composition(self._executor, self.metrics, models)
        self._accelerator = accelerator = accelerator_of(settings)
        self.loaders = Loaders(settings, policies, self.metrics, self._warmup, composition.open_session, accelerator)
        self._health = follow(directory)
        self._settings = settings
        self._directory = directory
        self._collect = collect
        self._keys = read_api_keys(settings.api_keys_file)
        self._access = Access(
            None if self._keys is None else self._current_keys, admin_from_anywhere=settings.admin_from_anywhere
        )
        secure = settings.tls_files is not None or bool(settings.rest_ssl_config_file)
        self._seeing = Seeing(settings.seeing, self._access, self.metrics.registry, secure=secure)
        self._watched: list[Reloading[Any]] = []
        """Files that may change."""
        self.served_methods: Set[str] = frozenset()
        """The full names of the gRPC methods, once it accepts."""
        self._console: Console | None = None
        if settings.console:
            self._console = Console(
                settings,
                directory,
                self._health,
                self._collect_all,
                reload,
                ConsoleModels(settings, directory, accelerator.report, self._rollout_report),
                self._access,
            )
        self._reload = reload
        self._listeners: list[Listener] = []
        self._configure()
        directory.subscribe(self._configure)
        add_process_metrics(self.metrics.registry)
        add_acceleration_metrics(self.metrics.registry, accelerator)
        add_process_model_metrics(self.metrics.registry, directory.serving)
        add_front_metrics(self.metrics.registry, directory.serving, self._listeners, self._request_log_writer)
        add_access_metrics(self.metrics.registry, self._access)

    def load_for_requests(self, manager: Wakes) -> None:
        """From now on requests for models that are not loaded have ``manager`` load them."""
        cold_start = ColdStart(manager, LoadWaits(self.metrics.registry).add)
        self._models.cold_start = cold_start
        if self._console is not None:
            self._console.models.cold_start = cold_start

    def handlers(self, ports: Ports | None = None) -> Handlers:
        """What answers requests, for whoever reads them. ``ports``: for the web console, which links to them."""
        settings = self._settings
        models = self._models
        status = StatusApi(self._directory.monitor, models, resolve_labels=settings.resolve_status_labels)
        rpc = RpcApi(
            models,
            status,
            self._executor,
            self.metrics,
            self._reload,
            as_tensor_content=settings.as_tensor_content,
            check_method_names=settings.check_method_names,
            session_service=settings.session_service,
            taps=self._taps,
        )
        oip = self._open_inference(status) if settings.open_inference_protocol else None
        rest = RestApi(
            models,
            status,
            self._executor,
            self.metrics,
            timeout=settings.rest_timeout,
            cors=settings.cors,
            keys=self._access.asks_for_keys,
            health=self._health if settings.health else None,
            engines=self._accelerator.report,
            metrics_path=settings.metrics_path,
            metrics_need=OPEN if settings.open_metrics else Need(Role.READ),
            collect=self._collect,
            check_method_names=settings.check_method_names,
            taps=self._taps,
            rollouts=self._rollouts,
            pushes=self._pushes,
            rollout_report=self._rollout_report,
            pages=self._console.pages(ports) if self._console and ports else {},
            fronts={} if oip is None else {"v2": oip.rest(settings.rest_timeout)},
        )
        methods = {**rpc.methods(), **self._rollouts.methods(), **self._pushes.methods()}
        streaming: dict[str, StreamHandler] = dict(rpc.streaming())
        if oip is not None:
            oip_rpc = oip.rpc()
            methods |= oip_rpc.methods()
            streaming |= oip_rpc.streaming()
        if settings.grpc_health:
            health = HealthRpc(self._health)
            methods |= health.methods()
            streaming |= health.streaming()
        if settings.reflection:
            streaming |= Reflection([*methods, *streaming]).streaming()

        answer: HttpHandler = rest.handle
        observer = self._seeing.observer
        if observer is not None:
            answer = observer.http(answer)
            methods = {name: observer.rpc(name, method) for name, method in methods.items()}
            streaming = {name: observer.stream(name, method) for name, method in streaming.items()}

        self.served_methods = methods.keys() | streaming.keys()
        return Handlers(rest, answer, methods, streaming)

    async def accept(self, ports: Ports, tls: Tls, seat: Seat | None = None) -> None:
        """Answers on these ports, from the calling thread, which from now on goes before those that compute. With a
        ``seat`` other processes do so, too, and connections are shared with them."""
        wake_at_once()
        settings = self._settings
        access = self._access
        observer = self._seeing.observer
        handlers = self.handlers(ports)
        rest, methods, streaming = handlers.rest, handlers.methods, handlers.streaming
        memory = self._request_memory

        def new_grpc_connection(connections: Connections) -> Connection:
            refused = None if observer is None else observer.rpc_refused
            return GrpcConnection(
                connections, methods, settings.grpc_limits, streaming, access.rpc_guard, memory, refused
            )

        def http_guard(peer: Peer) -> HttpGuard | None:
            return access.http_guard(peer, rest.need, rest.headers)

        http_refused = None if observer is None else observer.http_refused
        http1 = Http1Server(handlers.http, settings.http_limits, http_guard, memory, http_refused)
        fronts: list[tuple[Sequence[socket.socket], NewConnection, ServerTls | None]] = [
            (ports.grpc, new_grpc_connection, tls.grpc),
            (ports.grpc_unix, new_grpc_connection, None),
            (ports.rest, http1.new_connection, tls.rest),
        ]
        self._watch(tls)
        for place, (sockets, new_connection, secure) in enumerate(fronts):
            if sockets:
                share = None if seat is None else seat.share(place)
                context = None if secure is None else secure.context
                listener = Listener(sockets, new_connection, tls=context, share=share, remove_files=seat is None)
                await listener.start()
                self._listeners.append(listener)

    def retire(self) -> None:
        """Nothing is ready any more; requests are answered as before."""
        self._health.drain()

    def _open_inference(self, status: StatusApi) -> OpenInference:
        settings = self._settings
        return OpenInference(
            self._models,
            status,
            self._health,
            self._executor,
            self.metrics,
            self._reload,
            self._collect_all,
            lambda: self._directory.models,
            taps=self._taps,
            check_method_names=settings.check_method_names,
            workers=settings.workers,
        )

    async def drain(self) -> None:
        """Takes no new request, and lets those in flight end within the grace period."""
        self.retire()
        self._warmup.stop()
        self._accelerator.stop()
        grace = self._settings.grace_period
        cut_off = sum(await asyncio.gather(*(listener.stop(grace) for listener in self._listeners)))
        if cut_off:
            logger.warning("%d connections were cut off after the grace period of %g s", cut_off, grace)
        for files in self._watched:
            files.stop()
        self._executor.stop()
        self._warmup_executor.stop()
        self.aside.stop()

    async def stop(self) -> None:
        """Writes what is left of the logs, and waits for trials to end. Nothing may come after."""
        await asyncio.to_thread(self._seeing.stop)
        await asyncio.to_thread(self._request_log_writer.stop)
        await asyncio.to_thread(self._accelerator.join)

    def _watch(self, tls: Tls) -> None:
        self._watched += [secure.files for secure in (tls.grpc, tls.rest) if secure is not None]
        if self._keys is not None:
            self._watched.append(self._keys)
        for files in self._watched:
            files.watch()

    def _current_keys(self) -> Keys:
        assert self._keys is not None
        return self._keys.value

    async def _collect_all(self) -> Sequence[Family]:
        return await self._collect() if self._collect else self.metrics.collect()

    def _rollout_report(self, name: str) -> Mapping[str, object]:
        default = self._directory.serving.default(name)
        report: dict[str, object] = {"default_version": None if default is None else str(default)}
        if shadow := self.mirrors.report(name):
            report["shadow"] = shadow
        if reports := self._directory.gate_reports.get(name):
            report["gate"] = {
                str(version): [check.to_json() for check in checks] for version, checks in reports.items()
            }
        return report

    def _configure(self) -> None:
        """Logs, limits, copies and divides the requests of the models that there are now, as each of them says."""
        self._admission.configure(terms_of(self._directory.models))
        self.mirrors.configure(self._directory.models)
        self._models.splits = splits(self._directory)
        self._tap()

    def _tap(self) -> None:
        directory = self._directory
        tags = self._settings.session_options.tags
        logs = model_logs(directory.models, tags, self._request_log_writer.offer)
        taps: dict[str, Tap] = {**logs}
        for model in directory.models:
            if others := self.mirrors.taps(model.name):
                taps[model.name] = Taps(logs.get(model.name), others)
        self._taps.clear()
        self._taps.update(taps)
