"""From SIGTERM to the exit: who is told what, and what is still answered."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from serving import Serving
from waiting import wait_until

from pyserving.protos import messages

WAIT = 60.0
PREDICT = "/v1/models/gate:predict"
SERVICE = "/tensorflow.serving.PredictionService/"
CODE = """
import asyncio
import os
import numpy as np
from pyserving import Model, Tensor, signature

async def opened(path):
    open(path + ".began", "w").close()
    while not os.path.exists(path + ".open"):
        await asyncio.sleep(0.01)

class Gate(Model):
    async def predict(self, path: Tensor[str]) -> Tensor[str]:
        await opened(str(path))
        return "passed " + str(path)

    @signature
    async def pieces(self, path: Tensor[str]) -> {"piece": Tensor[np.int64]}:
        yield {"piece": 1}
        await opened(str(path))
        yield {"piece": 2}
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs several workers")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    version = tmp_path / "gate" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(CODE)
    servers = []

    def start_one(*arguments: str) -> Serving:
        servers.append(Serving(str(tmp_path / "gate"), "--python-models=on", *arguments).wait_until_ready())
        return servers[-1]

    yield start_one
    for server in servers:
        server.process.kill()
        server.process.wait()


def rest_request(path: str) -> bytes:
    body = json.dumps({"inputs": path}).encode()
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (PREDICT.encode(), len(body), body)


def grpc_request(path: str, signature: str = "") -> bytes:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="gate", signature_name=signature))
    request.inputs["path"].CopyFrom(messages.TensorProto(dtype=messages.DataType.Value("DT_STRING")))
    request.inputs["path"].tensor_shape.SetInParent()
    request.inputs["path"].string_val.append(path.encode())
    return request.SerializeToString()


def read_answers(connection: socket.socket) -> list[tuple[bytes, bytes]]:
    """Head and body of each, up to the end of the connection."""
    data = b""
    while piece := connection.recv(1 << 16):
        data += piece
    answers = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        (length,) = (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        answers.append((head, data[:length]))
        data = data[length:]
    return answers


@pytest.mark.parametrize("workers", [1, 2])
def test_all_that_is_in_flight_is_answered(start: Callable[..., Serving], tmp_path: Path, workers: int) -> None:
    server = start(f"--workers={workers}")
    paths = {name: str(tmp_path / name) for name in ("first", "second", "third", "unary", "stream", "slow", "late")}
    address = ("127.0.0.1", server.rest)

    def began(name: str) -> None:
        wait_until(lambda: os.path.exists(paths[name] + ".began"), f"{name} has begun")

    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc}")
    pipelined, slow, idle = (socket.create_connection(address, WAIT) for _ in range(3))
    with ThreadPoolExecutor(1) as pool, channel, pipelined, slow, idle:
        pipelined.sendall(b"".join(map(rest_request, (paths["first"], paths["second"], paths["third"]))))
        unary = channel.unary_unary(SERVICE + "Predict").future(grpc_request(paths["unary"]), timeout=WAIT)
        stream = channel.unary_stream(SERVICE + "PredictStreamed")(
            grpc_request(paths["stream"], "pieces"), timeout=WAIT
        )
        pieces = [next(stream)]
        upload = rest_request(paths["slow"])
        slow.sendall(upload[:-5])
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1 << 16).startswith(b"HTTP/1.1 200")
        for name in ("first", "second", "third", "unary", "stream"):
            began(name)

        stopping = pool.submit(server.stop)
        wait_until(lambda: server.get("/healthz")[0] == 0, "no new connection is taken")
        assert idle.recv(1) == b""  # closed, for it had nothing to ask
        slow.sendall(upload[-5:])
        began("slow")
        for path in paths.values():
            Path(path + ".open").touch()

        answers = read_answers(pipelined)
        assert [json.loads(body) for _, body in answers] == [
            {"outputs": f"passed {paths[name]}"} for name in ("first", "second", "third")
        ]
        assert [b"Connection: close" in head for head, _ in answers] == [False, False, True]
        ((head, body),) = read_answers(slow)
        assert b" 200 " in head
        assert b"Connection: close" in head
        assert json.loads(body) == {"outputs": f"passed {paths['slow']}"}
        answer = messages.PredictResponse.FromString(unary.result())
        assert next(iter(answer.outputs.values())).string_val == [f"passed {paths['unary']}".encode()]
        pieces += list(stream)
        assert [messages.PredictResponse.FromString(piece).outputs["piece"].int64_val[0] for piece in pieces] == [1, 2]
        assert stopping.result() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_before_a_drain_with_delay_requests_are_still_taken(
    start: Callable[..., Serving], tmp_path: Path, workers: int
) -> None:
    server = start(f"--workers={workers}", "--drain-delay=60")
    path = str(tmp_path / "open")
    Path(path + ".open").touch()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        health = HealthStub(channel)
        watch = health.Watch(HealthCheckRequest(service=""), timeout=WAIT)
        assert next(watch).status == HealthCheckResponse.SERVING
        kept = HTTPConnection("127.0.0.1", server.rest, timeout=WAIT)

        def ask_kept() -> dict[str, str]:
            kept.request("POST", PREDICT, json.dumps({"inputs": path}))
            answer = kept.getresponse()
            assert json.loads(answer.read()) == {"outputs": f"passed {path}"}
            return dict(answer.getheaders())

        ask_kept()
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == HealthCheckResponse.NOT_SERVING
        wait_until(lambda: server.get("/readyz")[0] == 503, "it is not ready")
        status, body = server.get("/readyz")
        assert (status, body) == (503, {"ready": False, "draining": True, "missing": [], "reasons": {}})
        assert server.get("/healthz")[0] == 200
        assert health.Check(HealthCheckRequest(service="gate"), timeout=WAIT).status == HealthCheckResponse.NOT_SERVING
        assert server.post_json(PREDICT, {"inputs": path})[0] == 200
        assert "Connection" not in ask_kept()
        assert channel.unary_unary(SERVICE + "Predict")(grpc_request(path), timeout=WAIT)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT) == 128 + signal.SIGTERM
        kept.close()
    wait_until(lambda: server.get("/healthz")[0] == 0, "its workers have ended, too")


def test_what_outlasts_the_grace_period_is_cut_off(start: Callable[..., Serving], tmp_path: Path) -> None:
    server = start("--grace=0.3")
    with socket.create_connection(("127.0.0.1", server.rest), WAIT) as connection:
        connection.sendall(rest_request(str(tmp_path / "never")))
        wait_until((tmp_path / "never.began").exists, "it has begun")
        assert server.stop() == 0
        assert connection.recv(1) == b""
    assert "cut off after the grace period" in server.log()


def test_a_connection_that_no_one_has_accepted_yet_is_answered(start: Callable[..., Serving], tmp_path: Path) -> None:
    """While the event loop is busy, the kernel holds connections and what they have sent."""
    server = start()
    path = str(tmp_path / "waiting")
    Path(path + ".open").touch()
    connections = []
    os.kill(server.process.pid, signal.SIGSTOP)  # as if it was busy
    try:
        for _ in range(20):
            connections.append(socket.create_connection(("127.0.0.1", server.rest), WAIT))
            connections[-1].sendall(rest_request(path))
        server.process.send_signal(signal.SIGTERM)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    for connection in connections:
        with connection:
            ((head, body),) = read_answers(connection)
            assert b" 200 " in head
            assert json.loads(body) == {"outputs": f"passed {path}"}
    assert server.process.wait(WAIT) == 0


def test_models_that_are_not_ready_in_time_end_the_server(tmp_path: Path) -> None:
    (tmp_path / "gate" / "1").mkdir(parents=True)
    (tmp_path / "gate" / "1" / "model.py").write_text(CODE)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.py").write_text("no python")
    (tmp_path / "empty").mkdir()
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list {"
        + "".join(
            f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "{platform}" }}'
            for name, platform in (("gate", "python"), ("broken", "python"), ("empty", "tensorflow"))
        )
        + "}"
    )
    server = Serving(f"--config={config}", "--python-models=on", "--ready-timeout=5", "--workers=2", "--drain-delay=60")
    assert server.process.wait(WAIT) == 1
    (line,) = (line for line in server.log().splitlines() if line.startswith("cannot serve"))
    assert line.startswith("cannot serve: Not ready within 5 s: ")
    assert "broken (version 1 " in line
    assert "empty (no version is found)" in line
    assert "gate" not in line


def test_ready_in_time(start: Callable[..., Serving]) -> None:
    assert start("--ready-timeout=50").stop() == 0
