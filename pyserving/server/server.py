"""A whole server: source and manager below, the api in the middle, listeners on top."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence

from pyserving.api.composition import Composition
from pyserving.api.exchange import StreamHandler
from pyserving.api.health import Health
from pyserving.api.health_rpc import HealthRpc
from pyserving.api.models import Models
from pyserving.api.prediction_methods import PredictionMethods
from pyserving.api.reflection import Reflection
from pyserving.api.request_log import ModelLog, model_logs
from pyserving.api.rest import RestApi
from pyserving.api.rpc import RpcApi
from pyserving.api.status import StatusApi
from pyserving.batching.executor import EngineExecutor
from pyserving.batching.parameters import BatchingPolicies
from pyserving.core.state import ServableState
from pyserving.monitoring.process import add_process_metrics
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.tensorflow.op_library import load_op_libraries
from pyserving.server.catalog import Catalog
from pyserving.server.loaders import Loaders
from pyserving.server.request_log_writer import RequestLogWriter
from pyserving.server.settings import Settings
from pyserving.server.state_metrics import add_state_metrics
from pyserving.server.tls import read_tls_context
from pyserving.server.warmup import Warmup
from pyserving.sources.model_config import ModelConfig
from pyserving.transport.grpc import GrpcConnection
from pyserving.transport.http1 import Http1Server
from pyserving.transport.listener import Connection, Connections, Listener, open_tcp, open_unix, port_of

logger = logging.getLogger("pyserving.server")

NewConnection = Callable[[Connections], Connection]


class Server:
    """To be made and used inside a running event loop."""

    def __init__(self, settings: Settings) -> None:
        policies = BatchingPolicies(settings.batching, settings.never_automatic)
        self._metrics = ServingMetrics(lambda name: self.catalog.has_model(name))
        self._executor = EngineExecutor(settings.engine_threads, policies, self._metrics.requests_waited)
        self._request_log_writer = RequestLogWriter()
        self._request_logs: dict[str, ModelLog] = {}
        self._warmup = Warmup(
            PredictionMethods(self._executor, self._metrics, check_method_names=settings.check_method_names),
            self._metrics,
            iterations=settings.warmup_iterations,
        )
        composition = Composition(self._executor, self._metrics, lambda: self._models)
        loaders = Loaders(settings, policies, self._metrics, self._warmup, composition.open_session)
        self.catalog = Catalog(settings, loaders, self._log_requests)
        self._models = Models(self.catalog.manager, self.catalog.labels)
        self.health = Health(self.catalog.manager, lambda: [model.name for model in self.catalog.models])
        self._loop = asyncio.get_running_loop()
        self.catalog.bus.subscribe(self._tell_health)
        self.rest_address: str | None = None
        """Where a client on this machine finds REST, once the port is open: ``localhost:8501``."""
        self.grpc_addresses: list[str] = []
        """The same for gRPC: ``localhost:8500``, ``unix:/run/serving.sock``."""
        self._settings = settings
        self._listeners: list[Listener] = []
        self._following: asyncio.Future[None] | None = None
        add_process_metrics(self._metrics.registry)
        add_state_metrics(
            self._metrics.registry,
            self.catalog.monitor,
            self.catalog.manager,
            self._listeners,
            self._request_log_writer,
        )

    async def start(self) -> None:
        """Opens the ports: at once, or when all models are available. Raises ServingError."""
        settings = self._settings
        # Read first: who mistyped a path should not have to wait for the models to be told.
        grpc_tls = _tls_context(settings.grpc_ssl_config_file, "h2")
        rest_tls = _tls_context(settings.rest_ssl_config_file, "http/1.1")
        if settings.op_libraries:
            await asyncio.to_thread(load_op_libraries, settings.op_libraries)
        if settings.wait_for_models:
            self.catalog.start()
            await self.catalog.wait_until_available()
            await self._open_ports(grpc_tls, rest_tls)
        else:
            await self._open_ports(grpc_tls, rest_tls)
            self.catalog.start()
        if settings.config_file and settings.config_poll_wait:
            self._following = asyncio.ensure_future(
                self.catalog.follow_config_file(settings.config_file, settings.config_poll_wait)
            )

    async def stop(self) -> None:
        """Takes no new request, lets those in flight end within the grace period, then unloads all models."""
        self.health.drain()
        if self._following is not None:
            self._following.cancel()
        self._warmup.stop()
        grace = self._settings.grace_period
        cut_off = sum(await asyncio.gather(*(listener.stop(grace) for listener in self._listeners)))
        if cut_off:
            logger.warning("%d connections were cut off after the grace period of %g s", cut_off, grace)
        self._executor.stop()
        await asyncio.to_thread(self.catalog.stop)
        await asyncio.to_thread(self._request_log_writer.stop)
        logger.info("Stopped")

    def _tell_health(self, _: ServableState) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: a load outlived the server
            self._loop.call_soon_threadsafe(self.health.notify)

    def _log_requests(self, models: Sequence[ModelConfig]) -> None:
        """Logs the requests of these models, as each of them says."""
        self.health.notify()
        tags = self._settings.session_options.tags
        self._request_logs.clear()
        self._request_logs.update(model_logs(models, tags, self._request_log_writer.offer))

    async def _open_ports(self, grpc_tls: ssl.SSLContext | None, rest_tls: ssl.SSLContext | None) -> None:
        settings = self._settings
        models = self._models
        status = StatusApi(self.catalog.monitor, models, resolve_labels=settings.resolve_status_labels)
        rpc = RpcApi(
            models,
            status,
            self._executor,
            self._metrics,
            self.catalog.reload,
            as_tensor_content=settings.as_tensor_content,
            check_method_names=settings.check_method_names,
            session_service=settings.session_service,
            logs=self._request_logs,
        )
        rest = RestApi(
            models,
            status,
            self._executor,
            self._metrics,
            timeout=settings.rest_timeout,
            cors=settings.cors,
            health=self.health if settings.health else None,
            metrics_path=settings.metrics_path,
            check_method_names=settings.check_method_names,
            logs=self._request_logs,
        )
        methods = dict(rpc.methods())
        streaming: dict[str, StreamHandler] = dict(rpc.streaming())
        if settings.grpc_health:
            health = HealthRpc(self.health)
            methods |= health.methods()
            streaming |= health.streaming()
        if settings.reflection:
            streaming |= Reflection([*methods, *streaming]).streaming()

        def new_grpc_connection(connections: Connections) -> Connection:
            return GrpcConnection(connections, methods, settings.grpc_limits, streaming)

        if settings.grpc_port is not None:
            sockets = open_tcp(settings.host, settings.grpc_port)
            self.grpc_addresses.append(self._client_address(sockets))
            await self._listen(sockets, new_grpc_connection, grpc_tls)
        if settings.grpc_socket_path:
            self.grpc_addresses.append(f"unix:{settings.grpc_socket_path}")
            await self._listen([open_unix(settings.grpc_socket_path)], new_grpc_connection)
        if settings.rest_port is not None:
            sockets = open_tcp(settings.host, settings.rest_port)
            self.rest_address = self._client_address(sockets)
            await self._listen(sockets, Http1Server(rest.handle).new_connection, rest_tls)

    async def _listen(
        self, sockets: Sequence[socket.socket], new_connection: NewConnection, tls: ssl.SSLContext | None = None
    ) -> None:
        listener = Listener(sockets, new_connection, tls=tls)
        await listener.start()
        self._listeners.append(listener)
        logger.info("Listening on %s", ", ".join(listener.addresses))

    def _client_address(self, sockets: Sequence[socket.socket]) -> str:
        host = self._settings.host
        if host in ("", "0.0.0.0", "::"):
            host = "localhost"
        return f"{f'[{host}]' if ':' in host else host}:{port_of(sockets[0])}"


def _tls_context(path: str, protocol: str) -> ssl.SSLContext | None:
    return read_tls_context(path, [protocol]) if path else None
