"""gRPC clients that get all addresses of the servers by one name, as docs/proxies.md shows."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from model_files import write_model
from running_server import PREDICTION, RunningServer, predict_request, tensor
from tiny_dns import TinyDns
from waiting import wait_until

from pyserving import Client
from pyserving.client.address import Address
from pyserving.core.errors import ServingError
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages

PAGE = Path(__file__).parents[2] / "docs" / "proxies.md"
NAME = "pyserving-pods.default.svc.cluster.local"
DOUBLE = """
    import numpy as np
    from pyserving import Model, Tensor

    class Double(Model):
        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return 2 * x
    """

StartServer = Callable[[str], RunningServer]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """At that address; all have the port of the first, as the pods of a Service have."""
    model = write_model(tmp_path, "double", DOUBLE)
    servers: list[RunningServer] = []

    def start(host: str) -> RunningServer:
        port = int(servers[0].server.ports.grpc_addresses[0].rpartition(":")[2]) if servers else 0
        options = PythonOptions(PythonModels.ON)
        try:
            servers.append(RunningServer([model], python_options=options, host=host, grpc_port=port))
        except ServingError:
            pytest.skip(f"needs the address {host}")
        servers[-1].settled("double")
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def dns() -> Iterator[TinyDns]:
    server = TinyDns(["127.0.0.1", "127.0.0.2"])
    yield server
    server.close()


def options_of_the_page() -> list[tuple[str, Any]]:
    """The channel options that the page's block makes."""
    (block,) = re.findall(r"```python\n(import json\n.*?)```", PAGE.read_text(), re.S)
    names: dict[str, Any] = {}
    exec(block.partition("channel =")[0], names)
    return list(names["options"])


def answered(server: RunningServer) -> float:
    return sum(
        count for name, count in server.metrics().items() if name.startswith(":tensorflow:serving:request_count")
    )


def check_turns(ask: Callable[[], None], *servers: RunningServer) -> None:
    """Requests go round robin by the connections that are ready: one of them may be so a little later."""

    def all_ready() -> bool:
        ask()
        return all(map(answered, servers))

    wait_until(all_ready)
    before = list(map(answered, servers))
    for _ in range(10):
        ask()
    assert all(answered(server) - count >= 3 for server, count in zip(servers, before, strict=True))


def test_grpcio_asks_all_addresses_of_a_name(start_server: StartServer, dns: TinyDns) -> None:
    first, second = start_server("127.0.0.1"), start_server("127.0.0.2")
    port = first.server.ports.grpc_addresses[0].rpartition(":")[2]
    # The page's target names no name server: grpcio asks the system's.
    target = f"dns://127.0.0.1:{dns.port}/{NAME}:{port}"
    # A name is looked up at most every 30 s; not so long here.
    options = [*options_of_the_page(), ("grpc.dns_min_time_between_resolutions_ms", 100)]
    request = predict_request("double", x=tensor(1.0)).SerializeToString()
    with grpc.insecure_channel(target, options) as channel:
        predict = channel.unary_unary(PREDICTION + "Predict")

        def ask() -> None:
            (output,) = messages.PredictResponse.FromString(predict(request, timeout=60)).outputs.values()
            assert list(output.float_val) == [2.0]

        check_turns(ask, first, second)
        # One goes, another comes: the connection that ends makes the client look the name up again.
        third = start_server("127.0.0.3")
        dns.addresses = ["127.0.0.2", "127.0.0.3"]
        first.stop()
        while not answered(third):
            ask()


def test_so_does_our_client(start_server: StartServer, dns: TinyDns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up by grpcio; here by the name server of the test."""
    first, second = start_server("127.0.0.1"), start_server("127.0.0.2")
    port = first.server.ports.grpc_addresses[0].rpartition(":")[2]
    monkeypatch.setattr(
        Address, "authority", property(lambda self: f"dns://127.0.0.1:{dns.port}/{self.host}:{self.port}")
    )
    with Client(f"grpc://{NAME}:{port}") as client:

        def ask() -> None:
            (y,) = client.predict("double", [1.0]).values()
            assert y.tolist() == [2.0]

        check_turns(ask, first, second)
    assert dns.asked[NAME] == 1


def test_the_options_of_the_page_are_a_service_config() -> None:
    ((name, text),) = options_of_the_page()
    assert name == "grpc.service_config"
    assert json.loads(text)["loadBalancingConfig"] == [{"round_robin": {}}]
