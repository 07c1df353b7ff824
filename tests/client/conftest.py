"""One server with small SavedModels and Python models, and a client for each of its protocols."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "server"))

from model_files import COUNT, write_model
from running_server import RunningServer

from pyserving import Client
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_policy import All

MIRROR = """
    from pyserving import Model, Tensor

    class Mirror(Model):
        def predict(self, x: Tensor[bytes, None]) -> {"y_bytes": Tensor[bytes, None]}:
            return {"y_bytes": x}
    """
MODELS = ("half_plus_two", "versioned", "dtypes", "strings", "failing")


@pytest.fixture(scope="package")
def server(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    configs = [ModelConfig(name, str(models_folder / name), version_policy=All()) for name in MODELS]
    folder = tmp_path_factory.mktemp("python")
    configs += [write_model(folder, "count", COUNT), write_model(folder, "mirror", MIRROR)]
    running = RunningServer(configs, python_options=PythonOptions(PythonModels.ON))
    for name in (*MODELS, "count", "mirror"):
        running.settled(name)
    yield running
    running.stop()


@pytest.fixture(params=["grpc", "rest"])
def address(request: pytest.FixtureRequest, server: RunningServer) -> str:
    """``host:port`` of a port that the client must find the protocol of."""
    ports = server.server.ports
    return str(ports.grpc_addresses[0] if request.param == "grpc" else ports.rest_address)


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, timeout=60) as made:
        yield made


@pytest.fixture
def grpc_client(server: RunningServer) -> Iterator[Client]:
    with Client(f"grpc://{server.server.ports.grpc_addresses[0]}") as made:
        yield made
