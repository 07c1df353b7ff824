"""OpenTelemetry: a span for each request, and below it one for each of its stages.

Names and attributes are those of OpenTelemetry's semantic conventions for HTTP and RPC servers. Where spans go, how
many requests are sampled and which headers carry the context is said by the environment variables OTEL_*.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from threading import Thread
from typing import TYPE_CHECKING

from pyserving.core.errors import Code, ServingError
from pyserving.monitoring.observation import Computation, Observation
from pyserving.server.http_route import http_route
from pyserving.server.observer import SeenRequest

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

STOP_SECONDS = 5.0
"""How long the last spans may take at a stop."""

_SERVER_ERRORS = frozenset(("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"))
"""gRPC statuses that are a server's fault (semantic conventions for gRPC)."""
_QUIET = (
    "grpc.health.v1.",
    "grpc.reflection.",
    *(f"inference.GRPCInferenceService/{method}" for method in ("ServerLive", "ServerReady", "ModelReady")),
)
"""Services and methods that have no traces: probes would be most of them."""


def asked_by_environment() -> bool:
    """Whether OTEL_* variables say where traces go."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
    return any(os.environ.get(name) for name in names)


def open_tracing(*, secure: bool) -> "Tracing":
    """As the environment says; ``secure``: REST is served over TLS.

    Raises ServingError: FAILED_PRECONDITION without OpenTelemetry, INVALID_ARGUMENT.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise _missing(error) from None
    import pyserving

    own: dict[str, str | int] = {"service.version": pyserving.__version__, "process.pid": os.getpid()}
    if "service.name" not in OTELResourceDetector().detect().attributes:
        own["service.name"] = "pyserving"
    provider = TracerProvider(resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    trace.set_tracer_provider(provider)  # for the code of models
    return Tracing(provider, secure=secure)


def _exporter() -> "SpanExporter":
    kind = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if kind == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if kind != "otlp":
        raise ServingError(Code.INVALID_ARGUMENT, f"OTEL_TRACES_EXPORTER must be otlp or console, got {kind}")
    protocol = (
        os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    try:
        if protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

            return GrpcExporter()
        if protocol == "http/protobuf":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

            return HttpExporter()
    except ImportError as error:
        raise _missing(error) from None
    text = f"OTEL_EXPORTER_OTLP_PROTOCOL must be grpc or http/protobuf, got {protocol}"
    raise ServingError(Code.INVALID_ARGUMENT, text)


def _missing(error: ImportError) -> ServingError:
    text = f"tracing needs OpenTelemetry ({error}): pip install 'pyserving[tracing]'"
    return ServingError(Code.FAILED_PRECONDITION, text)


class Tracing:
    """Begins the traces of requests."""

    def __init__(self, provider: "TracerProvider", *, secure: bool = False) -> None:
        self._provider = provider
        self._scheme = "https" if secure else "http"
        self._tracer = provider.get_tracer("pyserving")

    def begin(self, seen: SeenRequest, headers: Mapping[str, str]) -> "_Trace | None":
        """A ``BeginTrace``: below the span that the headers name, if they name one."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        if seen.protocol == "GRPC":
            if seen.method.startswith(_QUIET):
                return None
            service, _, method = seen.method.partition("/")
            name = seen.method
            attributes: dict[str, str | int] = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        else:
            if not seen.path.lower().startswith(("/v1/", "/v2/models/")):
                return None
            attributes = {"http.request.method": seen.method, "url.path": seen.path, "url.scheme": self._scheme}
            name = seen.method
            if route := http_route(seen.method, seen.path).template:
                name = f"{seen.method} {route}"
                attributes["http.route"] = route
        if agent := headers.get("user-agent"):
            attributes["user_agent.original"] = agent
        if isinstance(seen.peer, tuple):
            attributes["client.address"] = str(seen.peer[0])
            attributes["client.port"] = seen.peer[1]
        attributes["pyserving.request_id"] = seen.request_id
        start = _nanoseconds(seen.observation, seen.observation.begun)
        context = extract(headers)
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes, start_time=start)
        return _Trace(self._tracer, span)

    def stop(self) -> None:
        """Sends what is left; does not wait long for a collector that does not answer."""
        thread = Thread(target=self._provider.shutdown, name="pyserving-tracing-stop", daemon=True)
        thread.start()
        thread.join(STOP_SECONDS)


class _Trace:
    """A ``RequestTrace``, and a ``Trace`` of what a request asks for further."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self._tracer = tracer
        self.span = span
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    def child(self, name: str) -> "_Trace":
        return _Trace(self._tracer, self._tracer.start_span(name, self._context()))

    def attached(self) -> AbstractContextManager[object]:
        from opentelemetry.trace import use_span

        return use_span(self.span, record_exception=False, set_status_on_exception=False)

    def end(self, observation: Observation, error: BaseException | None) -> None:
        self._end(observation, "" if error is None else str(error))

    def finish(self, seen: SeenRequest) -> None:
        span = self.span
        if not span.is_recording():
            return
        span.set_attribute("pyserving.request.size", seen.bytes_in)
        span.set_attribute("pyserving.response.size", seen.bytes_out)
        if seen.key:
            span.set_attribute("pyserving.api_key", seen.key)
        if seen.protocol == "GRPC":
            code = int(Code[seen.status])
            span.set_attribute("rpc.grpc.status_code", code)
            failed = seen.status in _SERVER_ERRORS
        else:
            span.set_attribute("http.response.status_code", int(seen.status))
            failed = int(seen.status) >= 500
        if failed:
            span.set_attribute("error.type", seen.status)
        self._end(seen.observation, (seen.error or seen.status) if failed else "")

    def _end(self, observation: Observation, error: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        span = self.span
        if not span.is_recording():
            return
        if observation.model:
            span.set_attribute("pyserving.model.name", observation.model)
        if observation.version is not None:
            span.set_attribute("pyserving.model.version", observation.version)
        if observation.signature:
            span.set_attribute("pyserving.model.signature", observation.signature)
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        self._stages(observation)
        span.end(_nanoseconds(observation, observation.ended))

    def _stages(self, observation: Observation) -> None:
        """A span for each stage that was reached."""
        runs = observation.runs
        if not runs:
            return
        context = self._context()
        self._stage(observation, "decode", context, observation.begun, runs[0].asked)
        for run in runs:
            parts = list(run.computations)
            self._stage(observation, "queue", context, run.asked, parts[0].began if parts else run.answered)
            for part in parts:
                self._batch(observation, part, context)
        self._stage(observation, "encode", context, runs[-1].answered, observation.ended)

    def _batch(self, observation: Observation, part: Computation, context: "Context") -> None:
        """The first request to end has the span that links to all that shared the batch; others' link to that."""
        from opentelemetry.trace import Link, SpanContext, set_span_in_context

        if isinstance(part.leader, SpanContext):
            links = [Link(part.leader)]
        else:
            spans = [run.observation.trace.span for run in part.runs if isinstance(run.observation.trace, _Trace)]
            links = [Link(span.get_span_context()) for span in spans] if part.requests > 1 else []
        batch = self._tracer.start_span(
            "batch",
            context,
            attributes={"pyserving.batch.requests": part.requests}
            | ({"pyserving.batch.rows": part.rows} if part.rows else {}),
            links=[link for link in links if link.context.trace_flags.sampled],
            start_time=_nanoseconds(observation, part.began),
        )
        if not isinstance(part.leader, SpanContext):
            part.leader = batch.get_span_context()
        # A request that was answered at its deadline ends before the engine does.
        end = observation.ended
        engine_end = part.engine_ended if part.engine_ended > part.engine_began else end
        inner = set_span_in_context(batch)
        self._stage(observation, "engine", inner, part.engine_began, min(engine_end, end))
        batch.end(_nanoseconds(observation, min(max(part.ended, engine_end), end)))

    def _stage(self, observation: Observation, name: str, context: "Context", start: float, end: float) -> None:
        span = self._tracer.start_span(name, context, start_time=_nanoseconds(observation, start))
        span.end(_nanoseconds(observation, max(start, end)))

    def _context(self) -> "Context":
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(self.span)


def _nanoseconds(observation: Observation, when: float) -> int:
    return round((when + observation.epoch) * 1e9)
