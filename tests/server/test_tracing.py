"""Traces of requests: to a real OTLP collector over HTTP, and span by span in memory."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
import trustme
from model_files import SCALE, write_model
from running_server import PREDICTION, RunningServer, predict_request, tensor
from waiting import wait_until

from pyserving.core.errors import ServingError
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server import seeing
from pyserving.server.seeing import SeeingOptions
from pyserving.server.tls import PemFiles
from pyserving.server.tracing import Tracing, asked_by_environment
from pyserving.sources.model_config import ModelConfig

pytest.importorskip("opentelemetry.sdk", reason="needs pyserving[tracing]")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

Start = Callable[..., RunningServer]

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
STAGES = ["decode", "queue", "batch", "engine", "encode"]


def test_what_the_environment_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not asked_by_environment()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    assert asked_by_environment()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not asked_by_environment()


def test_where_no_traces_can_be_made_only_the_option_is_a_reason_not_to_serve(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)  # as if it were not installed
    server = start([], seeing=SeeingOptions(tracing=None))
    assert requests.get(url(server, "/healthz")).status_code == 200
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "pip install 'pyserving[tracing]'" in warning
    with pytest.raises(ServingError, match="pip install"):
        start([], seeing=SeeingOptions(tracing=True))
    monkeypatch.undo()
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    assert start([], seeing=SeeingOptions(tracing=None)).server._front._seeing.observer is None


class Spans:
    """What a server in this process has traced."""

    def __init__(self, ratio: float) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._provider = provider

    def open(self, *, secure: bool) -> Tracing:
        return Tracing(self._provider, secure=secure)

    def all(self, count: int) -> list[ReadableSpan]:
        """Once there are so many."""
        wait_until(lambda: len(self._exporter.get_finished_spans()) >= count)
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def spans(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Spans:
    made = Spans(getattr(request, "param", 1.0))
    monkeypatch.setattr(seeing, "open_tracing", made.open)
    return made


def start_traced(start: Start, models: list[ModelConfig], **settings: Any) -> RunningServer:
    how = {"python_options": PythonOptions(PythonModels.ON), "seeing": SeeingOptions(tracing=True)} | settings
    server = start(models, **how)
    for model in models:
        server.settled(model.name)
    return server


def url(server: RunningServer, path: str) -> str:
    return f"http://{server.server.ports.rest_address}{path}"  # type: ignore[union-attr]


def by_name(spans: list[ReadableSpan]) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans}


def inside(span: ReadableSpan, outer: ReadableSpan) -> bool:
    assert span.start_time
    assert span.end_time
    assert outer.start_time
    assert outer.end_time
    return outer.start_time <= span.start_time <= span.end_time <= outer.end_time


def test_a_rest_request(start: Start, tmp_path: Path, spans: Spans) -> None:
    server = start_traced(start, [write_model(tmp_path, "scale", SCALE)])
    answer = requests.post(
        url(server, "/v1/models/scale:predict"),
        b'{"inputs":{"x":[1.0,2.0],"add":1.0}}',
        headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"},
    )
    assert answer.status_code == 200
    found = by_name(spans.all(6))
    root = found.pop("POST /v1/models/{model}:predict")
    assert sorted(found) == sorted(STAGES)
    assert root.context is not None
    assert root.parent is not None
    assert (f"{root.context.trace_id:032x}", f"{root.parent.span_id:016x}") == (TRACE, PARENT)
    assert root.attributes is not None
    assert root.kind.name == "SERVER"
    expected = {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}:predict",
        "http.response.status_code": 200,
        "url.path": "/v1/models/scale:predict",
        "client.address": "127.0.0.1",
        "pyserving.model.name": "scale",
        "pyserving.model.version": 1,
        "pyserving.model.signature": "serving_default",
        "pyserving.request_id": "mine",
    }
    assert {key: root.attributes[key] for key in expected} == expected
    for name, span in found.items():
        outer = found["batch"] if name == "engine" else root
        assert outer.context is not None
        assert span.parent is not None
        assert span.parent.span_id == outer.context.span_id
        assert inside(span, outer), name
    assert found["batch"].attributes == {"pyserving.batch.requests": 1}
    assert requests.get(url(server, "/readyz")).status_code == 200
    assert requests.get(url(server, "/v1/models/scale")).status_code == 200
    assert [span.name for span in spans.all(7)][6:] == ["GET /v1/models/{model}"], "probes have no trace"


def test_a_grpc_request_and_one_that_fails(start: Start, tmp_path: Path, spans: Spans) -> None:
    server = start_traced(start, [write_model(tmp_path, "scale", SCALE)])
    call = server.channel.unary_unary(PREDICTION + "Predict", lambda m: m.SerializeToString(), lambda data: data)
    call(predict_request("scale", x=tensor(1.0)), metadata=[("traceparent", f"00-{TRACE}-{PARENT}-01")])
    *stages, root = spans.all(6)
    assert sorted(span.name for span in stages) == sorted(STAGES)
    assert root.context is not None
    assert root.attributes is not None
    assert (root.name, f"{root.context.trace_id:032x}") == ("tensorflow.serving.PredictionService/Predict", TRACE)
    assert root.attributes["rpc.grpc.status_code"] == 0
    with pytest.raises(grpc.RpcError):
        call(predict_request("scale", "breaks", x=tensor(1.0)))
    failed = spans.all(12)[-1]
    assert failed.attributes is not None
    assert (failed.status.status_code.name, failed.attributes["rpc.grpc.status_code"]) == ("ERROR", 13)
    with pytest.raises(grpc.RpcError):
        call(predict_request("nobody", x=tensor(1.0)))
    missing = spans.all(13)[-1]
    assert missing.attributes is not None
    assert (missing.status.status_code.name, missing.attributes["pyserving.model.name"]) == ("UNSET", "nobody")


def test_requests_that_share_a_batch_link_to_each_other(start: Start, tmp_path: Path, spans: Spans) -> None:
    slow = """
        import threading
        import numpy as np
        from pyserving import Model, Tensor, signature

        class Slow(Model):
            concurrency = 1

            @signature(row_wise=True)
            def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
                if x[0] < 0:
                    entered.set()
                    gate.wait(30)
                return x

        entered, gate = threading.Event(), threading.Event()
        """
    server = start_traced(start, [write_model(tmp_path, "slow", slow)])
    with server.server.directory.serving.acquire("slow") as handle:
        model = handle.servable._author.predict.__globals__
        entered, gate = model["entered"], model["gate"]
    with ThreadPoolExecutor(17) as pool:
        ask = lambda value: requests.post(url(server, "/v1/models/slow:predict"), json={"instances": [value]})  # noqa: E731
        first = pool.submit(ask, -1.0)
        assert entered.wait(30), first.result().text
        others = [pool.submit(ask, 1.0) for _ in range(16)]
        wait_until(lambda: server.metrics()['pyserving_queued_requests{model_name="slow"}'] == 16)
        gate.set()
        assert [one.result().status_code for one in (first, *others)] == [200] * 17
    found = spans.all(17 * 6)
    roots = {span.context.span_id for span in found if span.name.startswith("POST") and span.context}
    batches = [span for span in found if (span.attributes or {}).get("pyserving.batch.requests", 0) > 1]
    leader = max(batches, key=lambda span: len(span.links))
    assert leader.context is not None
    assert leader.attributes is not None
    joined = {link.context.span_id for link in leader.links}
    assert joined <= roots
    assert len(joined) == leader.attributes["pyserving.batch.requests"] == leader.attributes["pyserving.batch.rows"]
    to_leader = [span for span in batches if [link.context.span_id for link in span.links] == [leader.context.span_id]]
    assert len(to_leader) == len(joined) - 1


@pytest.mark.parametrize("isolation", [PythonModels.ON, PythonModels.PROCESS], ids=["threads", "process"])
def test_a_model_that_asks_another(start: Start, tmp_path: Path, spans: Spans, isolation: PythonModels) -> None:
    asks = """
        import numpy as np
        from pyserving import Model, Tensor

        class Asks(Model):
            def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
                (answer,) = self.models["scale"].predict(x=x).values()
                return answer
        """
    models = [write_model(tmp_path, "scale", SCALE), write_model(tmp_path, "asks", asks)]
    server = start_traced(start, models, python_options=PythonOptions(isolation))
    assert server.post("asks:predict", {"instances": [1.0]}) == {"predictions": [3.0]}
    found = spans.all(12)
    root = next(span for span in found if span.name.startswith("POST"))
    child = next(span for span in found if span.name == "model scale")
    assert root.context is not None
    assert child.context is not None
    assert child.parent is not None
    assert {span.context.trace_id for span in found if span.context} == {root.context.trace_id}
    assert child.parent.span_id == root.context.span_id
    below = sorted(span.name for span in found if span.parent and span.parent.span_id == child.context.span_id)
    assert below == sorted(set(STAGES) - {"engine"})
    assert (root.attributes or {})["pyserving.model.name"] == "asks"
    assert (child.attributes or {})["pyserving.model.name"] == "scale"


@pytest.mark.parametrize("spans", [0.0], indirect=True)
def test_what_is_not_sampled_has_no_span_unless_its_parent_is(start: Start, tmp_path: Path, spans: Spans) -> None:
    server = start_traced(start, [write_model(tmp_path, "scale", SCALE)])
    where, body = url(server, "/v1/models/scale:predict"), b'{"inputs":{"x":[1.0],"add":1.0}}'
    requests.post(where, body)
    requests.post(where, body, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    requests.post(where, body, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert {f"{span.context.trace_id:032x}" for span in spans.all(6) if span.context} == {TRACE}
    assert len(spans.all(6)) == 6


def test_the_scheme_is_that_of_the_port(start: Start, tmp_path: Path, spans: Spans) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    certificate, key, ca = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "ca.pem"))
    made.cert_chain_pems[0].write_to_path(certificate)
    made.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    server = start_traced(start, [], tls_files=PemFiles(certificate, key))
    requests.get(url(server, "/v1/models/none").replace("http", "https", 1), verify=ca)
    (span,) = spans.all(1)
    assert (span.attributes or {})["url.scheme"] == "https"


class _Collector(BaseHTTPRequestHandler):
    received: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        import gzip

        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ExportTraceServiceRequest]]:
    """An OTLP collector over HTTP; the environment names it."""
    _Collector.received = []
    server = HTTPServer(("127.0.0.1", 0), _Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    yield _Collector.received
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_collector_gets_what_was_traced_before_the_stop(
    start: Start, tmp_path: Path, collector: list[ExportTraceServiceRequest]
) -> None:
    server = start_traced(start, [write_model(tmp_path, "scale", SCALE)])
    server.call(PREDICTION + "Predict", predict_request("scale", x=tensor(1.0)), messages.PredictResponse)
    server.stop()
    resources = [resource for request in collector for resource in request.resource_spans]
    names = [span.name for one in resources for scope in one.scope_spans for span in scope.spans]
    assert sorted(names) == sorted([*STAGES, "tensorflow.serving.PredictionService/Predict"])
    attributes = {pair.key: pair.value.string_value for pair in resources[0].resource.attributes}
    assert attributes["service.name"] == "shop"
