"""Access log and traces where several processes answer: nothing is missing, and nothing is there twice."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from serving import Serving

pytest.importorskip("opentelemetry.sdk", reason="needs pyserving[tracing]")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

BODY = b'{"instances": [1]}'
NUMBER = 40


class _Collector(BaseHTTPRequestHandler):
    received: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        self.received.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[ThreadingHTTPServer]:
    _Collector.received = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_request_has_one_line_and_one_trace(tmp_path: Path, collector: ThreadingHTTPServer) -> None:
    (tmp_path / "table" / "1").mkdir(parents=True)
    (tmp_path / "table" / "1" / "table.csv").write_text("key,value\n1,1.5\n")
    log = tmp_path / "access.log"
    server = Serving(
        str(tmp_path / "table"),
        "--workers=2",
        f"--access-log={log}",
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"},
    ).wait_until_ready()
    for number in range(NUMBER):  # each by a connection of its own: they reach both workers
        status, _ = server.post("/v1/models/table:predict", BODY, {"X-Request-Id": f"number-{number}"})
        assert status == 200
    assert server.stop() == 0, server.log()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    asked = [line for line in lines if line["path"] == "/v1/models/table:predict"]
    assert sorted(line["request_id"] for line in asked) == sorted(f"number-{number}" for number in range(NUMBER))
    roots = {}
    processes = set()
    for request in _Collector.received:
        for resource in request.resource_spans:
            pid = {pair.key: pair.value.int_value for pair in resource.resource.attributes}["process.pid"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                if span.name.startswith("POST"):
                    processes.add(pid)
                    attributes = {pair.key: pair.value.string_value for pair in span.attributes}
                    assert attributes["pyserving.request_id"] not in roots
                    roots[attributes["pyserving.request_id"]] = span.trace_id.hex()
    assert roots == {line["request_id"]: line["trace_id"] for line in asked}
    assert len(processes) == 2
