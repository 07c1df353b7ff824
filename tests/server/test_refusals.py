"""Refusals, fairness and priorities, with real requests to a real server."""

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from threading import Semaphore

import grpc
import pytest
from running_server import PREDICTION, RunningServer, predict_request, tensor

from pyserving.batching.admission import AdmissionOptions, Limits
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig


def flood(server: RunningServer, number: int, timeout: float) -> list[grpc.Future]:
    """Requests that count until their deadline."""
    predict = server.channel.unary_unary(
        PREDICTION + "Predict",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages.PredictResponse.FromString,
    )
    request = predict_request("slow", steps=tensor(10**12, dtype="DT_INT64", shape=()))
    return [predict.future(request, timeout=timeout) for _ in range(number)]


def post(server: RunningServer, path: str, body: object, **headers: str) -> tuple[int, dict[str, str], object]:
    """Status, headers and body of any answer."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"http://{server.server.ports.rest_address}/v1/models/{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.loads(error.read())


@pytest.fixture(scope="module")
def served(models_folder: Path):
    """Two threads for all; ``slow`` may have four requests in flight, and ``half_plus_two_tf2`` as many as it likes."""
    limits = messages.ModelOptions(max_in_flight=4)
    server = RunningServer(
        [
            ModelConfig("slow", str(models_folder / "slow"), options=limits),
            ModelConfig("half_plus_two_tf2", str(models_folder / "half_plus_two_tf2")),
        ],
        engine_threads=2,
        admission=AdmissionOptions(Limits(), Limits(max_queued=100), watch_deadlines=True),
    )
    for name in ("slow", "half_plus_two_tf2"):
        server.settled(name)
    yield server
    server.stop()


def test_a_flooded_slow_model_leaves_threads_to_others_and_what_is_too_much_is_refused(served):
    flooding = flood(served, 6, timeout=5)
    done = Semaphore(0)
    for future in flooding:
        future.add_done_callback(lambda _: done.release())
    for _ in range(2):
        assert done.acquire(timeout=30)
    refused = [future for future in flooding if future.done()]
    # The other model's requests are answered while all threads that are common are taken.
    for value in range(4):
        status, _, body = post(served, "half_plus_two_tf2:predict", {"instances": [value]})
        assert (status, body) == (200, {"predictions": [value / 2 + 2]})
    assert sum(future.done() for future in flooding) == 2, [future.details() for future in flooding if future.done()]
    for future in refused:
        assert future.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "4 requests for model slow are in flight, of at most 4" in future.details()
        pushback = dict(future.trailing_metadata())
        assert int(pushback["grpc-retry-pushback-ms"]) >= 1
    status, headers, body = post(served, "slow:predict", {"inputs": {"steps": 1}})
    assert (status, headers["Retry-After"]) == (429, "1")
    assert "in flight" in body["error"]
    metrics = served.metrics()
    assert metrics['pyserving_refused_requests_total{model_name="slow",reason="model_in_flight"}'] == 3
    assert metrics['pyserving_queued_requests{model_name="slow"}'] == 2
    assert {future.code() for future in flooding if future not in refused} <= {
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,  # it was clear before it began that it would take too long
    }
    # Runs end at their deadline, a moment later than the answer: then there is room again.
    assert served.post("slow:predict", {"inputs": {"steps": 3}}) == {"outputs": 3}


def test_the_client_says_how_long_it_waits(served):
    status, _, body = post(served, "slow:predict", {"inputs": {"steps": 10**12}}, **{"Grpc-Timeout": "50m"})
    assert status in (504, 429), body
    status, _, body = post(served, "slow:predict", {"inputs": {"steps": 1}}, **{"Grpc-Timeout": "soon"})
    assert (status, body["error"][:30]) == (400, "Expected Grpc-Timeout as digit")


def test_a_reload_changes_limits(served):
    config = messages.ModelConfig(
        name="slow",
        base_path=served.server.directory.models[0].base_path,
        model_platform="tensorflow",
    )
    other = messages.ModelConfig(
        name="half_plus_two_tf2",
        base_path=served.server.directory.models[1].base_path,
        model_platform="tensorflow",
    )
    config.pyserving.max_in_flight = 1
    served.reload([config, other])
    flooding = flood(served, 2, timeout=1)
    codes = {future.code() for future in flooding}
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}


TRIES = 2000
"""Of one request, until the server has seen what another client does."""


def refusal_of(server: RunningServer, request: messages.PredictRequest) -> grpc.RpcError | None:
    """None where it is answered."""
    try:
        server.call(PREDICTION + "Predict", request, messages.PredictResponse)
    except grpc.RpcError as error:
        return error
    return None


def test_a_request_that_would_not_fit_is_refused_before_its_body_is_read(models_folder: Path, start):
    server = start([ModelConfig("half_plus_two_tf2", str(models_folder / "half_plus_two_tf2"))], request_memory=6 << 20)
    server.settled("half_plus_two_tf2")
    host, port = server.server.ports.rest_address.rsplit(":", 1)
    head = "POST /v1/models/half_plus_two_tf2:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(head.encode())
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"Retry-After: 1" in answer
    memory = server.server._front._request_memory
    # One that fits is answered; one of the same size at the same time does not, until the first is gone.
    body = json.dumps({"instances": [1.0] * 300_000}).encode()
    fits = f"POST /v1/models/half_plus_two_tf2:predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(fits.encode() + body[:-1])
        large = predict_request("half_plus_two_tf2", x=tensor(*[1.0] * 300_000))
        # Until the head of the other has been read.
        refusal = next((refusal for _ in range(TRIES) if (refusal := refusal_of(server, large))), None)
        assert refusal is not None
        assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "bytes of memory" in refusal.details()
    assert any(refusal_of(server, large) is None for _ in range(TRIES)), "it is not seen that the other has gone"
    assert len(server.post("half_plus_two_tf2:predict", {"instances": [1.0] * 300_000})["predictions"]) == 300_000
    metrics = server.metrics()
    assert metrics["pyserving_requests_refused_for_memory_total{}"] >= 2
    assert memory.held == 0
