"""Two servers behind nginx, with the config that docs/operations.md shows, lose no request as they are restarted."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from serving import Serving, free_port

from pyserving.protos import messages

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
WAIT = 60.0
CODE = """
import numpy as np
from pyserving import Model, Tensor

class Double(Model):
    def predict(self, x: Tensor[np.float32]) -> Tensor[np.float32]:
        return 2 * x
"""

Restarts = Callable[[int], Counter[str]]


class Clients:
    """Half by REST, half by gRPC; each keeps its connection and asks without a pause."""

    def __init__(self, rest: int, grpc_port: int, number: int) -> None:
        self.outcomes: Counter[str] = Counter()
        """How often each came, by protocol and code."""
        self._rest, self._grpc = rest, grpc_port
        self._counting = threading.Lock()
        self._stopped = threading.Event()
        runs = [self._ask_rest, self._ask_grpc]
        self._threads = [threading.Thread(target=runs[i % 2], daemon=True) for i in range(number)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive()

    def _count(self, outcome: str) -> None:
        with self._counting:
            self.outcomes[outcome] += 1

    def _ask_rest(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._rest, timeout=WAIT)
        body = json.dumps({"inputs": 21.0})
        while not self._stopped.is_set():
            try:
                connection.request("POST", "/v1/models/double:predict", body)
                answer = connection.getresponse()
                text = answer.read()
                right = answer.status != 200 or json.loads(text) == {"outputs": 42.0}
                self._count(f"REST {answer.status}" if right else f"REST {text!r}")
            except OSError as error:
                self._count(f"REST {error!r}")
                connection.close()
        connection.close()

    def _ask_grpc(self) -> None:
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name="double"))
        request.inputs["x"].CopyFrom(messages.TensorProto(dtype=1, float_val=[21.0]))
        request.inputs["x"].tensor_shape.SetInParent()
        options = [("grpc.enable_retries", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{self._grpc}", options) as channel:
            predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            while not self._stopped.is_set():
                try:
                    answer = messages.PredictResponse.FromString(predict(request.SerializeToString(), timeout=WAIT))
                    (output,) = answer.outputs.values()
                    self._count("gRPC OK" if list(output.float_val) == [42.0] else f"gRPC {output}")
                except grpc.RpcError as error:
                    self._count(f"gRPC {error.code().name} {error.details()}")


def nginx_config(ports: dict[int, int]) -> str:
    """As the page shows it, on these ports."""
    (config,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.S)
    for documented, port in ports.items():
        assert f":{documented}" in config
        config = config.replace(f":{documented}", f":{port}")
    return str(config)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def restarts(tmp_path: Path) -> Iterator[Restarts]:
    """Restarts each server so many times under load; what clients saw."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if nginx is None:
        pytest.skip("needs nginx")
    (tmp_path / "double" / "1").mkdir(parents=True)
    (tmp_path / "double" / "1" / "model.py").write_text(CODE)
    ports = {documented: free_port() for documented in (8500, 8501, 8600, 8601, 8080, 8081)}

    arguments = (str(tmp_path / "double"), "--python-models=on", "--wait-for-models")

    def start(rest: int, grpc_port: int) -> Serving:
        return Serving(*arguments, ports=(ports[rest], ports[grpc_port]))

    servers = [start(8501, 8500), start(8601, 8600)]
    for server in servers:
        server.wait_until_ready()
    prefix = tmp_path / "nginx"
    (prefix / "logs").mkdir(parents=True)
    kept = [f"{name}_temp_path {prefix}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    config = nginx_config(ports).replace("http {", "\n    ".join(["http {", "access_log off;", *kept]), 1)
    (prefix / "nginx.conf").write_text(f"daemon off;\npid {prefix}/pid;\nerror_log {prefix}/error.log info;\n{config}")
    proxy = subprocess.Popen([nginx, "-p", prefix, "-c", prefix / "nginx.conf", "-e", prefix / "error.log"])
    end = time.monotonic() + WAIT
    while not listens(ports[8080]) or not listens(ports[8081]):
        assert proxy.poll() is None, (prefix / "error.log").read_text()
        assert time.monotonic() < end, "nginx does not listen"
        time.sleep(0.01)

    def restart(times: int) -> Counter[str]:
        with Clients(ports[8080], ports[8081], 6) as clients:
            for number in range(2 * times):
                seen = clients.outcomes.total()
                end = time.monotonic() + WAIT
                while clients.outcomes.total() < seen + 200:
                    assert time.monotonic() < end, (clients.outcomes, (prefix / "error.log").read_text()[-2000:])
                    assert proxy.poll() is None, (prefix / "error.log").read_text()
                    time.sleep(0.01)
                server = servers[number % 2]
                assert server.stop() == 0
                servers[number % 2] = Serving(*arguments, ports=(server.rest, server.grpc))
                servers[number % 2].wait_until_ready()
        return clients.outcomes

    yield restart
    proxy.terminate()
    proxy.wait(WAIT)
    for server in servers:
        server.stop()


def test_a_rolling_restart_loses_nothing(restarts: Restarts) -> None:
    outcomes = restarts(2)
    assert outcomes.keys() == {"REST 200", "gRPC OK"}, outcomes


@pytest.mark.soak
def test_ten_rolling_restarts_lose_nothing(restarts: Restarts) -> None:
    outcomes = restarts(10)
    print(outcomes)
    assert outcomes.keys() == {"REST 200", "gRPC OK"}, outcomes
