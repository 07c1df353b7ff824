"""docs/many-models.md: its config is served, models are loaded for requests, and make room for each other."""

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from google.protobuf import text_format
from model_files import write_model
from running_server import MODEL, PREDICTION, RunningServer, predict_request, tensor
from waiting import wait_until

from pyserving.core.errors import ServingError
from pyserving.core.servable import ServableRequest
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server.residency import new_residency, stays_of
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig, models_from_config

Start = Callable[..., RunningServer]
V2 = "/inference.GRPCInferenceService/"
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "many-models.md").read_text()
(CONFIG,) = re.findall(r"```proto\n(.*?)```", PAGE, re.DOTALL)
ON = PythonOptions(PythonModels.ON)
LAZY = messages.ModelOptions(lazy=True)
PINNED = messages.ModelOptions(pinned=True)

ASKS = """
    import numpy as np
    from pyserving import Model, Tensor

    class Asks(Model):
        def predict(self, x: Tensor[np.float32, None]) -> {"y": Tensor[np.float32, None]}:
            return {"y": self.models["m"].predict(x=x)["y"]}
    """

CODE = """
    import time
    import numpy as np
    from pyserving import Model, Tensor

    class Doubles(Model):
        def load(self, folder):
            with open(folder / "loads", "a") as file:
                file.write("x")
            if (folder / "broken").exists():
                raise ValueError("the weights are missing")
            while (folder / "slow").exists():
                time.sleep(0.01)

        def predict(self, x: Tensor[np.float32, None]) -> {"y": Tensor[np.float32, None]}:
            return {"y": x * 2}
    """


def doubles(folder: Path, name: str, options: messages.ModelOptions = LAZY, megabytes: float = 0.0) -> ModelConfig:
    model = write_model(folder, name, CODE)
    (folder / name / "1" / "weights").write_bytes(b"\0" * int(megabytes * 1e6))
    return ModelConfig(name, model.base_path, model.platform, options=options)


def loads(model: ModelConfig) -> int:
    file = Path(model.base_path, "1", "loads")
    return len(file.read_text()) if file.exists() else 0


def state(server: RunningServer, name: str) -> str:
    return server.server.directory.monitor.states(name)[0].state.name


def known(server: RunningServer, *names: str) -> None:
    """Waits until the models are loaded, or known and not loaded."""
    server.server.directory.monitor.wait_until_available([ServableRequest(name) for name in names], timeout=60)


def url(server: RunningServer, path: str) -> str:
    assert server.server.ports is not None
    return f"http://{server.server.ports.rest_address}{path}"


def ask(server: RunningServer, name: str) -> None:
    assert server.post(f"{name}:predict", {"instances": [1.0, 2.0]}) == {"predictions": [2.0, 4.0]}


def test_the_config_of_the_page(tmp_path: Path, start: Start) -> None:
    for name in ("rare", "often"):
        doubles(tmp_path, name)
    text = CONFIG.replace("/models/", f"{tmp_path}/")
    models = models_from_config(text_format.Parse(text, messages.ModelServerConfig(), descriptor_pool=messages.POOL))
    assert models is not None
    server = start(models, python_options=ON)
    server.settled("often")
    known(server, "rare")
    assert (state(server, "rare"), [loads(model) for model in models]) == ("START", [0, 1])
    assert requests.get(url(server, "/readyz"), timeout=60).json()["ready"]
    ask(server, "rare")
    assert state(server, "rare") == "AVAILABLE"


def test_many_first_requests_over_both_protocols_share_one_load(tmp_path: Path, start: Start) -> None:
    model = doubles(tmp_path, "m")
    server = start([model], python_options=ON)
    known(server, "m")
    request = predict_request("m", x=tensor(1.0))

    def rpc(_: int) -> None:
        answer = server.call(PREDICTION + "Predict", request, messages.PredictResponse)
        assert list(answer.outputs["y"].float_val) == [2.0]

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(rpc, range(10)))
        list(pool.map(lambda _: ask(server, "m"), range(10)))
    assert loads(model) == 1
    metrics = server.metrics()
    assert metrics['pyserving_lazy_loads_total{model_name="m"}'] == 1
    assert metrics['pyserving_load_wait_seconds_count{model_name="m"}'] >= 1


def _rest(path: str, body: object = None, **headers: str) -> Callable[[RunningServer], None]:
    def call(server: RunningServer) -> None:
        method = "GET" if body is None else "POST"
        answer = requests.request(method, url(server, path), json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text

    return call


def _rpc(server: RunningServer) -> None:
    server.call(PREDICTION + "Predict", predict_request("m", x=tensor(1.0)), messages.PredictResponse)


def _stream(server: RunningServer) -> None:
    assert len(list(server.streamed(predict_request("m", x=tensor(1.0))))) == 1


def _metadata(server: RunningServer) -> None:
    request = messages.GetModelMetadataRequest(model_spec={"name": "m"}, metadata_field=["signature_def"])
    server.call(PREDICTION + "GetModelMetadata", request, messages.GetModelMetadataResponse)


def _multi_inference(server: RunningServer) -> None:
    """The model has no such signature, which shows only once it is loaded."""
    request = messages.MultiInferenceRequest()
    request.tasks.add(model_spec={"name": "m"}, method_name="tensorflow/serving/regress")
    with pytest.raises(grpc.RpcError) as raised:
        server.call(PREDICTION + "MultiInference", request, messages.MultiInferenceResponse)
    assert raised.value.code() is not grpc.StatusCode.NOT_FOUND


def _infer(server: RunningServer) -> None:
    request = messages.ModelInferRequest(model_name="m", model_version="1")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.0)
    server.call(V2 + "ModelInfer", request, messages.ModelInferResponse)


def _infer_streamed(server: RunningServer) -> None:
    request = messages.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.0)
    stream = server.channel.stream_stream(V2 + "ModelStreamInfer")
    (answer,) = stream(iter([request.SerializeToString()]), timeout=60)
    assert not messages.ModelStreamInferResponse.FromString(answer).error_message


def _metadata_of_v2(server: RunningServer) -> None:
    server.call(V2 + "ModelMetadata", messages.ModelMetadataRequest(name="m"), messages.ModelMetadataResponse)


@pytest.mark.parametrize(
    "call",
    [
        _rest("/v2/models/m/infer", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}),
        _rest("/v2/models/m"),
        _rest("/v2/models/m/versions/stable/config"),
        _infer,
        _infer_streamed,
        _metadata_of_v2,
        _rest("/v1/models/m:predict", {"instances": [1.0]}),
        _rest("/v1/models/m/versions/1:predict", {"instances": [1.0]}),
        _rest("/v1/models/m/labels/stable:predict", {"instances": [1.0]}),
        _rest("/v1/models/m:predict", {"instances": [1.0]}, Accept="application/x-ndjson"),
        _rest("/v1/models/m/metadata"),
        _rest("/console/api/signatures?model=m"),
        _rest("/v1/models/asks:predict", {"instances": [1.0]}),
        _rpc,
        _stream,
        _metadata,
        _multi_inference,
    ],
)
def test_whatever_needs_the_model_waits_for_its_load(
    tmp_path: Path, start: Start, call: Callable[[RunningServer], None]
) -> None:
    model = doubles(tmp_path, "m")
    model = ModelConfig("m", model.base_path, model.platform, labels={"stable": 1}, options=LAZY)
    asks = write_model(tmp_path, "asks", ASKS)
    options = {"console": True, "allow_labels_for_unavailable": True, "open_inference_protocol": True}
    server = start([model, asks], python_options=ON, **options)
    known(server, "m", "asks")
    call(server)
    assert (state(server, "m"), loads(model)) == ("AVAILABLE", 1)


def test_a_request_waits_no_longer_than_its_deadline(tmp_path: Path, start: Start) -> None:
    model = doubles(tmp_path, "m")
    (Path(model.base_path) / "1" / "slow").touch()
    server = start([model], python_options=ON)
    known(server, "m")
    answer = requests.post(
        url(server, "/v1/models/m:predict"), json={"instances": [1.0]}, headers={"Grpc-Timeout": "20m"}, timeout=60
    )
    assert (answer.status_code, answer.json()) == (
        504,
        {"error": "Model m is being loaded, which was not done by the deadline"},
    )
    (Path(model.base_path) / "1" / "slow").unlink()
    ask(server, "m")
    assert loads(model) == 1


def test_a_load_that_fails_is_told_with_a_pause(tmp_path: Path, start: Start) -> None:
    model = doubles(tmp_path, "m")
    (Path(model.base_path) / "1" / "broken").touch()
    server = start([model], python_options=ON, load_retry_interval=1.0)
    known(server, "m")
    answers = [requests.get(url(server, "/v1/models/m/metadata"), timeout=60) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert "Model m could not be loaded" in answers[0].json()["error"]
    assert "the weights are missing" in answers[0].json()["error"]
    assert answers[0].headers["Retry-After"] == "1"
    assert loads(model) < 3
    assert server.server.directory.monitor.states("m")[0].state.name == "END"
    assert requests.get(url(server, "/readyz"), timeout=60).status_code == 200
    (Path(model.base_path) / "1" / "broken").unlink()
    wait_until(lambda: requests.get(url(server, "/v1/models/m/metadata"), timeout=60).ok)


def test_models_make_room_for_each_other(tmp_path: Path, start: Start) -> None:
    a, b = (doubles(tmp_path, name, megabytes=0.6) for name in "ab")
    often = doubles(tmp_path, "often", PINNED, megabytes=0.3)
    huge = doubles(tmp_path, "huge", megabytes=9)
    server = start([a, b, often, huge], python_options=ON, model_memory_budget=budget(a, 1.7))
    known(server, "a", "b", "often", "huge")
    for _ in range(3):
        ask(server, "a")
        ask(server, "b")
        ask(server, "often")
    assert [state(server, name) for name in ("a", "b", "often")] == ["START", "AVAILABLE", "AVAILABLE"]
    assert [loads(model) for model in (a, b, often)] == [3, 3, 1]
    metrics = server.metrics()
    assert metrics['pyserving_evictions_total{model_name="a"}'] == 3
    assert 0 < metrics["pyserving_model_memory_bytes{}"] <= metrics["pyserving_model_memory_limit_bytes{}"]
    answer = requests.post(url(server, "/v1/models/huge:predict"), json={"instances": [1.0]}, timeout=60)
    assert answer.status_code == 429
    assert re.search(r"needs \d+ bytes of memory, more than all of the budget of \d+", answer.json()["error"])
    assert loads(huge) == 0


def budget(model: ModelConfig, times: float) -> int:
    """So many times what the model needs by its estimate."""
    files = sum(file.stat().st_size for file in Path(model.base_path).rglob("*") if file.is_file())
    return int(times * files * 1.2)


def test_a_reload_may_pin_a_model(tmp_path: Path, start: Start) -> None:
    model = doubles(tmp_path, "m")
    server = start([model], python_options=ON)
    known(server, "m")
    entry = messages.ModelConfig(name="m", base_path=model.base_path, model_platform=model.platform, pyserving=PINNED)
    server.reload([entry])
    server.server.directory.monitor.wait_until_available([ServableRequest("m")], timeout=60)
    wait_until(lambda: state(server, "m") == "AVAILABLE")


def test_status_does_not_load(tmp_path: Path, start: Start) -> None:
    server = start([doubles(tmp_path, "m")], python_options=ON)
    known(server, "m")
    request = messages.GetModelStatusRequest(model_spec={"name": "m"})
    answer = server.call(MODEL + "GetModelStatus", request, messages.GetModelStatusResponse)
    assert [one.state for one in answer.model_version_status] == [10]
    assert state(server, "m") == "START"


def test_what_v2_tells_of_a_model_that_is_not_loaded(tmp_path: Path, start: Start) -> None:
    """It is ready, as the next request has it loaded; none of these questions does."""
    server = start([doubles(tmp_path, "m")], python_options=ON, open_inference_protocol=True)
    known(server, "m")

    def told(method: str, path: str) -> tuple[int, Any]:
        answer = requests.request(method, url(server, f"/v2/{path}"), timeout=60)
        return answer.status_code, answer.json()

    for path in ("models/m", "models/m/versions/1"):
        assert told("GET", f"{path}/ready") == (200, {"name": "m", "ready": True})
        status, statistics = told("GET", f"{path}/stats")
        assert (status, [one["version"] for one in statistics["model_stats"]]) == (200, ["1"])
    assert told("GET", "models/m/versions/2/ready")[0] == 503
    assert told("GET", "models/m/versions/2/stats")[0] == 404
    assert told("GET", "models/m/versions/label/ready")[0] == 503
    line = {"name": "m", "version": "1", "state": "READY", "reason": "loaded when a request needs it"}
    assert told("POST", "repository/index") == (200, [line])
    assert len(told("GET", "models/stats")[1]["model_stats"]) == 1
    assert state(server, "m") == "START"


def test_v2_unloads_what_is_not_loaded(tmp_path: Path, start: Start) -> None:
    model = doubles(tmp_path, "m")
    server = start([model], python_options=ON, open_inference_protocol=True)
    known(server, "m")

    def change(what: str) -> int:
        return requests.post(url(server, f"/v2/repository/models/m/{what}"), timeout=10).status_code

    assert change("unload") == 200
    assert requests.get(url(server, "/v2/models/m/ready"), timeout=60).status_code == 503
    assert requests.get(url(server, "/v2/models/m"), timeout=60).status_code == 404
    assert change("load") == 200
    assert requests.get(url(server, "/v2/models/m/ready"), timeout=60).status_code == 200
    assert loads(model) == 0
    ask(server, "m")


def test_all_models_may_be_lazy(tmp_path: Path, start: Start) -> None:
    models = [doubles(tmp_path, "m", messages.ModelOptions()), doubles(tmp_path, "often", PINNED)]
    server = start(models, python_options=ON, lazy=True, wait_for_models=True)
    assert [state(server, model.name) for model in models] == ["START", "AVAILABLE"]
    ask(server, "m")


def test_promote_and_rollback_load_the_model(tmp_path: Path, start: Start) -> None:
    model = doubles(tmp_path, "m")
    shutil.copytree(Path(model.base_path) / "1", Path(model.base_path) / "2")
    server = start([model], python_options=ON)
    known(server, "m")
    assert requests.post(url(server, "/v1/models/m:promote"), json={"version": 1}, timeout=60).json() == {
        "version": "1",
        "previous_version": "2",
    }
    assert server.server.directory.serving.default("m") == 1
    assert loads(model) == 1


def test_rollback_of_a_model_that_is_not_loaded(tmp_path: Path, start: Start) -> None:
    model = doubles(tmp_path, "m")
    shutil.copytree(Path(model.base_path) / "1", Path(model.base_path) / "2")
    server = start([model], python_options=ON)
    known(server, "m")
    answer = requests.post(url(server, "/v1/models/m:rollback"), timeout=60)
    assert answer.json() == {"version": "1", "previous_version": "2"}
    assert (Path(model.base_path) / "1" / "loads").read_text() == "x"
    broken = doubles(tmp_path, "broken")
    (Path(broken.base_path) / "1" / "broken").touch()
    server.reload(
        [
            messages.ModelConfig(
                name="broken", base_path=broken.base_path, model_platform=broken.platform, pyserving=LAZY
            )
        ]
    )
    known(server, "broken")
    answer = requests.post(url(server, "/v1/models/broken:promote"), json={"version": 1}, timeout=60)
    assert answer.status_code in (400, 503)
    assert "the weights are missing" in answer.text
    for version in ("9" * 5000, "1" * 20):
        answer = requests.post(url(server, "/v1/models/broken:promote"), json={"version": version}, timeout=60)
        assert answer.status_code == 400
        body = {"versions": [{"number": version, "path": "/"}]}
        assert requests.post(url(server, "/v1/models/broken:aspire"), json=body, timeout=60).status_code == 400


def test_it_needs_one_process() -> None:
    lazy = ModelConfig("m", "/m", options=LAZY)
    with pytest.raises(ServingError, match="Model m cannot be lazy where several workers"):
        stays_of(Settings([lazy], workers=2), [lazy])
    for options in ({"lazy": True}, {"model_memory_budget": 1}):
        with pytest.raises(ServingError, match="leave --workers out"):
            new_residency(Settings([], workers=2, **options))
    with pytest.raises(ServingError, match="got both"):
        new_residency(Settings([], model_memory_limit=1, model_memory_budget=1))
