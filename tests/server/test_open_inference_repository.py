"""The extensions of the Open Inference Protocol: model repository, statistics, model configuration."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import SCALE, write_model
from running_server import RunningServer
from waiting import wait_until

from pyserving.api import oip_repository, oip_statistics
from pyserving.api.health import Health
from pyserving.api.models import Models
from pyserving.api.oip_repository import OipRepository
from pyserving.api.oip_statistics import OipStatistics, Watch
from pyserving.api.status import StatusApi
from pyserving.core.errors import Code, ServingError
from pyserving.core.events import EventBus
from pyserving.core.labels import VersionLabels
from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.servable import ServableId
from pyserving.core.serving_map import ServingMap
from pyserving.monitoring.metrics import Family, Registry
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig

http = pytest.importorskip("tritonclient.http", reason="needs tritonclient")
rpc = pytest.importorskip("tritonclient.grpc", reason="needs tritonclient")
from tritonclient.utils import InferenceServerException  # noqa: E402

BROKEN = """
    import numpy as np
    from pyserving import Model, Tensor

    class Broken(Model):
        def load(self, folder):
            raise ValueError("no weights")

        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return x
    """
Start = Callable[..., RunningServer]


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[RunningServer] = []

    def started(models: list[ModelConfig]) -> RunningServer:
        options = PythonOptions(PythonModels.ON)
        servers.append(RunningServer(models, python_options=options, open_inference_protocol=True))
        return servers[-1]

    yield started
    for server in servers:
        server.stop()


def clients(server: RunningServer) -> dict[str, Any]:
    ports = server.server.ports
    return {
        "http": http.InferenceServerClient(ports.rest_address),
        "grpc": rpc.InferenceServerClient(ports.grpc_addresses[0]),
    }


def infer(kind: str, client: Any, name: str = "scale") -> list[float]:
    module = http if kind == "http" else rpc
    x, add = module.InferInput("x", [2], "FP32"), module.InferInput("add", [], "FP32")
    x.set_data_from_numpy(np.array([1.0, 2.0], np.float32))
    add.set_data_from_numpy(np.array(0.0, np.float32))
    answer = client.infer(name, [x, add])
    result = answer.get_response()
    output = result["outputs"][0]["name"] if kind == "http" else result.outputs[0].name
    values: list[float] = answer.as_numpy(output).tolist()
    return values


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_unload_and_load(start: Start, tmp_path: Path, kind: str) -> None:
    server = start([write_model(tmp_path, "scale", SCALE), write_model(tmp_path, "other", SCALE)])
    server.settled("scale")
    server.settled("other")
    client = clients(server)[kind]
    client.load_model("scale")  # that it is there already is no error
    client.unload_model("scale")
    assert not client.is_model_ready("scale")
    assert client.is_server_ready()  # all that the config lists is
    with pytest.raises(InferenceServerException, match="Servable not found"):
        infer(kind, client)

    def states() -> dict[str, str]:
        index = client.get_model_repository_index(**({"as_json": True} if kind == "grpc" else {}))
        return {line["name"]: line["state"] for line in (index["models"] if kind == "grpc" else index)}

    wait_until(lambda: states() == {"scale": "UNAVAILABLE", "other": "READY"})  # UNLOADING before
    assert infer(kind, client, "other") == [2.0, 4.0]
    client.load_model("scale")
    assert client.is_model_ready("scale")
    assert infer(kind, client) == [2.0, 4.0]


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_what_cannot_be_loaded(start: Start, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = write_model(tmp_path, "broken", BROKEN)
    (tmp_path / "empty").mkdir()
    server = start([broken, ModelConfig("empty", str(tmp_path / "empty"))])
    server.settled("broken")
    client = clients(server)[kind]
    for name, text in (("unheard-of", "config lists, got 'unheard-of'"), ("broken", "broken")):
        with pytest.raises(InferenceServerException, match=text):
            client.load_model(name)
    monkeypatch.setattr(oip_repository, "SETTLE_SECONDS", 0.2)
    with pytest.raises(InferenceServerException, match=r"Expected a version of model empty in .*, found none"):
        client.load_model("empty")
    monkeypatch.undo()
    with pytest.raises(InferenceServerException, match=r"Expected no parameters, .* got config"):
        client.load_model("broken", config=json.dumps({}))
    with pytest.raises(InferenceServerException, match="config lists"):
        client.unload_model("unheard-of")
    Path(broken.base_path, "1", "model.py").unlink()
    (tmp_path / "good").mkdir()
    write_model(tmp_path / "good", "broken", SCALE)
    Path(tmp_path, "good", "broken", "1", "model.py").rename(Path(broken.base_path, "1", "model.py"))
    client.load_model("broken")  # tried again
    assert infer(kind, client, "broken") == [2.0, 4.0]


def test_several_processes_are_led_by_their_config(tmp_path: Path) -> None:
    async def asked() -> None:
        async def reload(_: messages.ModelServerConfig) -> None:
            raise AssertionError

        models = [ModelConfig("scale", str(tmp_path))]
        monitor = ServableStateMonitor(EventBus())
        status = StatusApi(monitor, Models(ServingMap(), VersionLabels()), resolve_labels=True)
        repository = OipRepository(lambda: models, reload, status, Health(monitor, lambda: ["scale"]), workers=2)
        for change in (repository.load, repository.unload):
            with pytest.raises(ServingError, match="one process to load and unload models, got 2 workers") as refused:
                await change("scale", ())
            assert refused.value.code is Code.FAILED_PRECONDITION

    asyncio.run(asked())


def test_statistics(start: Start, tmp_path: Path) -> None:
    server = start([write_model(tmp_path, "scale", SCALE)])
    server.settled("scale")
    both = clients(server)
    for kind, client in both.items():
        infer(kind, client)
        infer(kind, client)
    x = http.InferInput("x", [1], "FP32")
    x.set_data_from_numpy(np.array([np.nan], np.float32))
    with pytest.raises(InferenceServerException, match="x must be numbers"):
        both["http"].infer("scale", [x])
    (by_http,) = both["http"].get_inference_statistics("scale")["model_stats"]
    (by_grpc,) = both["grpc"].get_inference_statistics(as_json=True)["model_stats"]
    assert (by_http["name"], by_http["version"], by_http["inference_count"]) == ("scale", "1", 4)
    parts = by_http["inference_stats"]
    assert {part: said["count"] for part, said in parts.items()} == {
        "success": 4, "fail": 1, "compute_input": 4, "compute_infer": 4, "compute_output": 4,
        "queue": 4,
    }  # fmt: skip
    sums = [parts[part]["ns"] for part in ("compute_input", "compute_infer", "compute_output")]
    assert all(sums)
    assert parts["success"]["ns"] == pytest.approx(sum(sums), abs=10)
    assert by_grpc["inference_stats"]["success"] == {"count": "4", "ns": str(parts["success"]["ns"])}
    assert both["http"].get_inference_statistics("scale", "1")["model_stats"] == [by_http]
    with pytest.raises(InferenceServerException, match="unheard-of"):
        both["http"].get_inference_statistics("unheard-of")
    request = messages.ModelInferRequest(model_name="scale")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.0)
    stream = server.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    assert len(list(stream(iter([request.SerializeToString()] * 2), timeout=60))) == 2
    (streamed,) = both["http"].get_inference_statistics("scale")["model_stats"]
    assert (streamed["inference_count"], streamed["inference_stats"]["queue"]["count"]) == (6, 6)


def test_statistics_are_of_so_many_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose versions come and go keeps its size."""
    monkeypatch.setattr(oip_statistics, "MAX_VERSIONS", 2)
    registry = Registry()

    async def collect() -> list[Family]:
        return registry.collect()

    statistics = OipStatistics(registry, collect)
    versions = [ServableId("m", number) for number in (1, 2, 3)]
    for version in versions:
        statistics.succeeded(version, Watch(infer=1.0))
        statistics.failed(version, 1.0)
    found = asyncio.run(statistics.of(versions))
    assert [found[version].counts.get("success", 0) for version in versions] == [0, 1, 1]
    assert {labels[1] for family in registry.collect() for labels in family.values} == {"2", "3"}


def test_model_configuration(start: Start, tmp_path: Path) -> None:
    server = start([write_model(tmp_path, "scale", SCALE)])
    server.settled("scale")
    both = clients(server)
    config = both["http"].get_model_config("scale")
    assert config["max_batch_size"] == 0
    assert config["input"] == [
        {"name": "x", "data_type": "TYPE_FP32", "dims": [-1]},
        {"name": "add", "data_type": "TYPE_FP32", "dims": [], "optional": True},
    ]
    config = both["grpc"].get_model_config("scale").config
    assert (config.name, config.input[0].name, list(config.input[0].dims)) == ("scale", "x", [-1])
    assert config.input[1].optional
    assert config.output[0].data_type == rpc.model_config_pb2.TYPE_FP32
