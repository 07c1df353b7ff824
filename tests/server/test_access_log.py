"""The access log, request ids and slow requests, of a server on a socket."""

import gzip
import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from model_files import COUNT, SCALE, write_model
from running_server import PREDICTION, RunningServer, predict_request, tensor
from waiting import wait_until

from pyserving.core.errors import ServingError
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server.access_log import MAX_WAITING, AccessLog, AccessLogFormat
from pyserving.server.observer import SeenRequest
from pyserving.server.seeing import SeeingOptions
from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.limits import HttpLimits

Start = Callable[..., RunningServer]

IN_THREADS = PythonOptions(PythonModels.ON)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def start_seen(start: Start, tmp_path: Path, limits: Mapping[str, Any] = {}, **options: Any) -> RunningServer:
    configs = [write_model(tmp_path, "scale", SCALE), write_model(tmp_path, "count", COUNT)]
    server = start(configs, python_options=IN_THREADS, seeing=SeeingOptions(**options), **limits)
    server.settled("scale")
    server.settled("count")
    return server


def test_a_line_for_each_request(start: Start, tmp_path: Path, log: Path) -> None:
    server = start_seen(start, tmp_path, access_log=str(log))
    url = f"http://{server.server.ports.rest_address}"  # type: ignore[union-attr]
    body = b'{"inputs":{"x":[1.0,2.0],"add":1.0}}'
    answer = requests.post(f"{url}/v1/models/scale:predict", body, headers={"X-Request-Id": "mine-1"})
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "mine-1"
    made = requests.post(f"{url}/v1/models/nothing:predict", body, headers={"X-Request-Id": "no id"})
    assert len(made.headers["x-request-id"]) == 32
    streamed = requests.post(
        f"{url}/v1/models/count:predict",
        json={"inputs": {"to": 3}},
        headers={"Accept": "application/x-ndjson", "X-Request-Id": "mine-2"},
    )
    assert len(streamed.text.splitlines()) == 3
    call = server.channel.unary_unary(PREDICTION + "Predict", lambda m: m.SerializeToString(), lambda data: data)
    request = predict_request("scale", x=tensor(1.0))
    got, ended = call.with_call(request, metadata=[("x-request-id", "mine-3")])
    assert dict(ended.trailing_metadata())["x-request-id"] == "mine-3"
    with pytest.raises(grpc.RpcError) as raised:
        call(predict_request("scale", "breaks", x=tensor(1.0)), metadata=[("x-request-id", "mine-4")])
    assert dict(raised.value.trailing_metadata())["x-request-id"] == "mine-4"
    pieces = list(server.streamed(predict_request("count", to=tensor(3, dtype="DT_INT64", shape=[]))))
    assert len(pieces) == 3
    assert requests.get(f"{url}/readyz?key=secret").status_code == 200
    server.stop()

    by_rest, missing, by_sse, by_grpc, broken, by_stream, ready = lines_of(log)
    assert by_rest["duration_ms"] > 0
    assert by_rest["peer"].startswith("127.0.0.1:")
    assert {key: by_rest[key] for key in ("protocol", "method", "path", "model", "version", "signature", "status")} == {
        "protocol": "REST",
        "method": "POST",
        "path": "/v1/models/scale:predict",
        "model": "scale",
        "version": 1,
        "signature": "serving_default",
        "status": "200",
    }
    assert (by_rest["bytes_in"], by_rest["bytes_out"]) == (len(body), len(answer.content))
    assert (missing["status"], missing["request_id"]) == ("404", made.headers["x-request-id"])
    assert (missing["model"], missing["version"]) == ("nothing", None)
    assert (by_sse["status"], by_sse["bytes_out"]) == ("200", len(streamed.content))
    assert (by_sse["request_id"], by_sse["model"]) == ("mine-2", "count")
    assert (by_grpc["method"], by_grpc["status"]) == ("tensorflow.serving.PredictionService/Predict", "OK")
    assert (by_grpc["bytes_in"], by_grpc["bytes_out"]) == (request.ByteSize(), len(got))
    assert (broken["status"], broken["signature"]) == ("INTERNAL", "breaks")
    assert broken["error"] == "model code raised KeyError"
    assert (by_stream["status"], by_stream["bytes_out"]) == ("OK", sum(piece.ByteSize() for piece in pieces))
    assert (ready["path"], ready["model"], ready["version"]) == ("/readyz", "", None)
    assert "secret" not in log.read_text()


def test_who_asked_and_who_was_refused(start: Start, tmp_path: Path, log: Path) -> None:
    keys = tmp_path / "keys"
    digest = hashlib.sha256(b"token").hexdigest()
    keys.write_text(f"ci predict sha256:{digest}\n")
    server = start(
        [write_model(tmp_path, "scale", SCALE)],
        python_options=IN_THREADS,
        api_keys_file=str(keys),
        seeing=SeeingOptions(access_log=str(log)),
    )
    server.settled("scale")
    url = f"http://{server.server.ports.rest_address}/v1/models/scale"  # type: ignore[union-attr]
    assert requests.post(url + ":predict", b'{"inputs":{"x":[1.0],"add":1.0}}').status_code == 401
    accepted = requests.post(url + ":predict", b'{"inputs":{"x":[1.0],"add":1.0}}', headers={"X-Api-Key": "token"})
    assert accepted.status_code == 200
    with pytest.raises(grpc.RpcError):
        server.call(PREDICTION + "Predict", predict_request("scale", x=tensor(1.0)), messages.PredictResponse)
    server.stop()
    assert [(line["status"], line["key"]) for line in lines_of(log)] == [
        ("401", ""),
        ("200", "ci"),
        ("UNAUTHENTICATED", ""),
    ]


def raw(server: RunningServer, data: bytes) -> bytes:
    """The status line of what comes for these bytes."""
    host, _, port = str(server.server.ports.rest_address).rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(data)
        return client.makefile("rb").readline()


def test_a_line_for_what_is_refused_before_a_handler_sees_it(start: Start, tmp_path: Path, log: Path) -> None:
    server = start_seen(
        start,
        tmp_path,
        access_log=str(log),
        limits={"http_limits": HttpLimits(max_body=100_000), "grpc_limits": GrpcLimits(max_receive_message=100_000)},
    )
    target = b"/v1/models/scale:predict"
    packed = gzip.compress(b"[" + b"1," * 100_000 + b"1]")
    for data, status in [
        (b"\x16\x03\x01 this is no HTTP\r\n\r\n", b"400"),
        (b"BREW " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"501"),
        (b"POST " + target + b" HTTP/1.1\r\nHost: a\r\nX-Request-Id: big\r\nContent-Length: 100001\r\n\r\n", b"413"),
        (b"POST " + target + b" HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (
            b"POST "
            + target
            + b" HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
            + packed,
            b"413",
        ),
    ]:
        assert raw(server, data).split()[1] == status
    channel = server.channel
    for method, message, code in [
        ("/no.Service/Method", b"", grpc.StatusCode.UNIMPLEMENTED),
        (PREDICTION + "Predict", b"a" * 100_001, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (PREDICTION + "Predict", b"a" * 30, grpc.StatusCode.INTERNAL),  # by the handler
    ]:
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(method)(message, timeout=30, metadata=[("x-request-id", "mine")])
        assert raised.value.code() is code
    server.stop()
    lines = lines_of(log)
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("", "", "400"),
        ("", "", "501"),
        ("POST", target.decode(), "413"),
        ("", target.decode(), "431"),
        ("", "/healthz", "400"),
        ("POST", target.decode(), "413"),
        ("no.Service/Method", "", "UNIMPLEMENTED"),
        ("tensorflow.serving.PredictionService/Predict", "", "RESOURCE_EXHAUSTED"),
        ("tensorflow.serving.PredictionService/Predict", "", "INTERNAL"),
    ]
    assert all(line["error"] and line["peer"].startswith("127.0.0.1:") for line in lines)
    assert (lines[2]["request_id"], lines[2]["model"]) == ("big", "scale")
    assert [line["request_id"] for line in lines[-3:]] == ["mine"] * 3


def seen(path: str = "/v1/models/m") -> SeenRequest:
    return SeenRequest("REST", "GET", path, "id", ("::1", 5, 0, 0), "", status="200")


def test_a_file_that_was_moved_away_is_begun_anew(log: Path) -> None:
    writer = AccessLog(str(log))
    writer.add(seen("/first"))
    wait_until(lambda: writer.written == 1)
    os.rename(log, log.with_suffix(".1"))
    writer.add(seen("/second"))
    writer.stop()
    assert [line["path"] for line in lines_of(log.with_suffix(".1"))] == ["/first"]
    assert [line["path"] for line in lines_of(log)] == ["/second"]


def test_lines_for_people(log: Path) -> None:
    writer = AccessLog(str(log), AccessLogFormat.TEXT)
    writer.add(seen("/a\n b"))
    writer.stop()
    (line,) = log.read_text().splitlines()
    assert line.split(" ", 1)[1] == "id REST GET '/a\\n b' - - - 200 - 0 0 0.0 [::1]:5 - -"


def test_what_cannot_be_written_is_dropped_and_counted(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = AccessLog(str(pipe))
    added = 0
    while not writer.dropped:  # nobody reads: the pipe fills up, then the queue
        writer.add(seen())
        added += 1
    assert added > MAX_WAITING
    os.set_blocking(reader, True)
    received = b""
    writer._queue.put(None)
    while writer._thread.is_alive() and (data := os.read(reader, 1 << 20)):
        received += data
    writer.stop()
    received += os.read(reader, 1 << 20)
    os.close(reader)
    assert received.count(b"\n") == writer.written == added - writer.dropped


def test_a_log_that_cannot_be_opened_is_refused(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="cannot write the access log"):
        start([], seeing=SeeingOptions(access_log=str(tmp_path / "no" / "folder")))


def test_slow_requests(start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = start_seen(start, tmp_path, slow_seconds=0.0)
    with caplog.at_level(logging.WARNING, "pyserving.server"):
        server.post("scale:predict", {"inputs": {"x": [1.0], "add": 1.0}})
    (record,) = [one for one in caplog.records if "Slow request" in one.message]
    assert list(record.fields["stages_ms"]) == ["decode", "queue", "batch", "engine", "encode"]  # type: ignore[attr-defined]
    assert ", model scale, status 200" in record.message
