"""Models of any platform in processes of their own, by `pyserving { isolation: PROCESS }`."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from running_server import PREDICTION, RunningServer, predict_request, tensor
from waiting import wait_until

from pyserving.core.errors import ServingError
from pyserving.core.state import State
from pyserving.platforms.process.model import ProcessModel
from pyserving.protos.messages import ModelOptions, ModelServerConfig, PredictResponse
from pyserving.sources.model_config import ModelConfig, models_from_config

pytestmark = pytest.mark.tensorflow
Start = Callable[..., RunningServer]
PROCESS = ModelOptions(isolation=ModelOptions.PROCESS)


def served(server: RunningServer, name: str) -> Any:
    (model,) = (model for key, model in server.server.directory.serving.served().items() if key.name == name)
    return model


def ask(server: RunningServer, name: str, *values: float) -> list[float]:
    response = server.call(PREDICTION + "Predict", predict_request(name, x=tensor(*values)), PredictResponse)
    return list(response.outputs["y"].float_val)


CASES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "half_plus_two_tf2": [("predict", {"instances": [1.0, 2.0]}), ("predict", {"instances": [[1.0], ["x"]]})],
    "vocabulary": [("predict", {"instances": ["a", "b"]})],
    "half_plus_two": [
        ("classify", {"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}]}),
        ("regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]}),
        ("predict", {"signature_name": "none", "instances": [1.0]}),
    ],
    "dtypes": [("predict", {"instances": [1]})],
}


def answer(server: RunningServer, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    response = requests.post(f"http://{server.server.ports.rest_address}/v1/models/{path}", json=body, timeout=60)
    return response.status_code, response.json()


def test_answers_as_in_the_server(start: Start, model_dir: Callable[[str], Path]) -> None:
    configs = [
        ModelConfig(prefix + name, str(model_dir(name)), options=options)
        for name in CASES
        for prefix, options in (("", ModelOptions()), ("own_", PROCESS))
    ]
    server = start(configs)
    for config in configs:
        assert server.settled(config.name).state is State.AVAILABLE
        assert isinstance(served(server, config.name), ProcessModel) is config.name.startswith("own_")
    statuses = set()
    for name, cases in CASES.items():
        for method, body in cases:
            status, content = answer(server, f"{name}:{method}", body)
            assert answer(server, f"own_{name}:{method}", body) == (status, content)
            statuses.add(status)
        metadata = requests.get(f"http://{server.server.ports.rest_address}/v1/models/{name}/metadata", timeout=60)
        own = requests.get(f"http://{server.server.ports.rest_address}/v1/models/own_{name}/metadata", timeout=60)
        assert own.json()["metadata"] == metadata.json()["metadata"]
    assert {200, 400} <= statuses


def test_a_crash_hurts_no_other_model(start: Start, model_dir: Callable[[str], Path]) -> None:
    base = str(model_dir("half_plus_two_tf2"))
    server = start([ModelConfig("crashing", base, options=PROCESS), ModelConfig("other", base)])
    assert server.settled("crashing").state is State.AVAILABLE
    server.settled("other")
    over = threading.Event()
    outcomes: dict[str, list[Any]] = {"crashing": [], "other": []}

    def client(name: str) -> None:
        while not over.is_set():
            try:
                outcomes[name].append(ask(server, name, 2.0))
            except grpc.RpcError as error:
                outcomes[name].append(error.code())
                over.wait(0.02)  # a start of the process needs the CPU

    clients = [threading.Thread(target=client, args=(name,)) for name in outcomes]
    for one in clients:
        one.start()
    try:
        for _ in range(2):
            pid = served(server, "crashing").pid
            os.kill(pid, signal.SIGSEGV)
            wait_until(lambda pid=pid: served(server, "crashing").pid != pid and served(server, "crashing").is_up)
            answered = outcomes["crashing"].count([3.0])
            wait_until(lambda answered=answered: outcomes["crashing"].count([3.0]) > answered)
    finally:
        over.set()
        for one in clients:
            one.join()
    assert all(outcome == [3.0] for outcome in outcomes["other"])
    assert set(map(str, outcomes["crashing"])) == {"[3.0]", str(grpc.StatusCode.UNAVAILABLE)}
    metrics = server.metrics()
    assert metrics['pyserving_model_process_restarts_total{model_name="crashing",version="1"}'] == 2
    assert metrics['pyserving_model_process_up{model_name="crashing",version="1"}'] == 1
    pid = served(server, "crashing").pid
    server.reload([])
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_the_server_may_say_so_and_the_config_otherwise(start: Start, model_dir: Callable[[str], Path]) -> None:
    base = str(model_dir("half_plus_two_tf2"))
    here = ModelOptions(isolation=ModelOptions.NONE)
    server = start([ModelConfig("own", base), ModelConfig("here", base, options=here)], isolate=True)
    for name, own in (("own", True), ("here", False)):
        assert server.settled(name).state is State.AVAILABLE
        assert isinstance(served(server, name), ProcessModel) is own


def test_a_python_model_still_needs_leave(start: Start, tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.py").write_text("raise SystemExit(7)\n")
    server = start([ModelConfig("m", str(tmp_path / "m"), options=PROCESS)])
    state = server.settled("m")
    assert state.state is State.END
    assert state.error is not None
    assert "--python-models=on" in state.error.message


@pytest.mark.parametrize("limit", ["process_time_limit", "process_load_time_limit"])
@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_limits_that_make_no_sense_are_refused(limit: str, seconds: float) -> None:
    config = ModelServerConfig()
    entry = config.model_config_list.config.add(name="m", base_path="/m", model_platform="tensorflow")
    setattr(entry.pyserving, limit, seconds)
    with pytest.raises(ServingError, match=f"Expected model m to have a {limit}"):
        models_from_config(config)
