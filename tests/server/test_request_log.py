"""What is logged of requests over both fronts, and that it can be used as a warmup file."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from running_server import PREDICTION, RunningServer, example, examples, only_file, predict_request, tensor
from waiting import wait_until

from benchmarks.running import free_port
from pyserving.api.request_log import LogType, model_logs
from pyserving.core.errors import ServingError
from pyserving.core.servable import ServableId
from pyserving.core.state import State
from pyserving.platforms.dtypes import DType
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig
from pyserving.wire.tensor_proto import read_tensor
from pyserving.wire.tfrecord import read_records

Start = Callable[..., RunningServer]
ModelDir = Callable[[str], Path]


def logging_config(prefix: Path, rate: float = 1.0, collector: str = "") -> messages.LoggingConfig:
    return messages.LoggingConfig(
        log_collector_config=messages.LogCollectorConfig(type=collector, filename_prefix=str(prefix)),
        sampling_config=messages.SamplingConfig(sampling_rate=rate),
    )


def logged_model(base: Path, prefix: Path, rate: float = 1.0) -> ModelConfig:
    return ModelConfig("m", str(base), logging_config=logging_config(prefix, rate))


def logs_in(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [messages.PredictionLog.FromString(record) for record in read_records(file)]


GIVEN = examples(example(x=2.0), example(x=4.0, x2=1.0))
JSON_GIVEN = [{"x": 2.0}, {"x": 4.0, "x2": 1.0}]


def ask_all(server: RunningServer) -> dict[str, tuple[Any, Any]]:
    """Asks each method over gRPC: request and answer by name of the log's field."""
    asked: dict[str, tuple[Any, Any]] = {}
    predict = predict_request("m", x=tensor(4.0, shape=(1, 1)))
    asked["predict_log"] = predict, server.call(PREDICTION + "Predict", predict, messages.PredictResponse)
    spec = messages.ModelSpec(name="m", signature_name="classify_x_to_y")
    classify = messages.ClassificationRequest(model_spec=spec, input=GIVEN)
    asked["classify_log"] = classify, server.call(PREDICTION + "Classify", classify, messages.ClassificationResponse)
    spec = messages.ModelSpec(name="m", signature_name="regress_x_to_y")
    regress = messages.RegressionRequest(model_spec=spec, input=GIVEN)
    asked["regress_log"] = regress, server.call(PREDICTION + "Regress", regress, messages.RegressionResponse)
    multi = messages.MultiInferenceRequest(
        tasks=[messages.InferenceTask(model_spec=spec, method_name="tensorflow/serving/regress")], input=GIVEN
    )
    answer = server.call(PREDICTION + "MultiInference", multi, messages.MultiInferenceResponse)
    asked["multi_inference_log"] = multi, answer
    return asked


def test_requests_over_grpc_are_logged_with_their_answers(model_dir: ModelDir, start: Start, tmp_path: Path) -> None:
    server = start([logged_model(model_dir("half_plus_two"), tmp_path / "log" / "m")])
    server.settled("m")
    before = int(time.time())
    exchanged = ask_all(server)
    with pytest.raises(grpc.RpcError):
        server.call(PREDICTION + "Predict", predict_request("m"), messages.PredictResponse)
    server.stop()
    logs = logs_in(only_file(tmp_path / "log"))
    assert [log.WhichOneof("log_type") for log in logs] == list(exchanged), "in order, and not the one that failed"
    for log in logs:
        kind = log.WhichOneof("log_type")
        assert (getattr(log, kind).request, getattr(log, kind).response) == exchanged[kind]
        metadata = log.log_metadata
        assert (metadata.model_spec.name, metadata.model_spec.version.value) == ("m", 123)
        assert metadata.sampling_config.sampling_rate == 1.0
        assert list(metadata.saved_model_tags) == ["serve"]
        assert before <= metadata.timestamp_secs <= time.time()
    signatures = [log.log_metadata.model_spec.signature_name for log in logs]
    assert signatures == ["serving_default", "classify_x_to_y", "regress_x_to_y", ""]


def test_rest_requests_are_logged_as_the_messages_that_they_mean(
    model_dir: ModelDir, start: Start, tmp_path: Path
) -> None:
    server = start([logged_model(model_dir("half_plus_two"), tmp_path / "m")])
    server.settled("m")
    exchanged = ask_all(server)
    server.post("m/versions/123:predict", {"instances": [[4.0]]})
    server.post("m:classify", {"signature_name": "classify_x_to_y", "examples": JSON_GIVEN})
    server.post("m:regress", {"signature_name": "regress_x_to_y", "examples": JSON_GIVEN, "context": {"x2": 3.0}})
    server.stop()
    predict, classify, regress = logs_in(only_file(tmp_path))[4:]

    request, answer = exchanged["predict_log"]
    assert predict.predict_log.request.model_spec.version.value == 123
    assert predict.predict_log.response.model_spec == answer.model_spec
    for ours, theirs in (
        (predict.predict_log.request.inputs, request.inputs),
        (predict.predict_log.response.outputs, answer.outputs),
    ):
        assert list(ours) == list(theirs)
        for name in ours:
            assert read_tensor(ours[name], name).tolist() == read_tensor(theirs[name], name).tolist()
            assert ours[name].dtype == DType.FLOAT

    request, answer = exchanged["classify_log"]
    assert (classify.classify_log.request, classify.classify_log.response) == (request, answer)
    listed = regress.regress_log.request.input.example_list_with_context
    assert list(listed.examples) == list(GIVEN.example_list.examples)
    assert listed.context == example(x2=3.0)
    assert regress.regress_log.response == exchanged["regress_log"][1]
    assert [log.log_metadata.model_spec.version.value for log in (predict, classify, regress)] == [123] * 3


def test_strings_over_rest_are_logged(model_dir: ModelDir, start: Start, tmp_path: Path) -> None:
    server = start([logged_model(model_dir("strings"), tmp_path / "m")])
    server.settled("m")
    server.post("m:predict", {"instances": ["grün", {"b64": "YWI="}]})
    server.stop()
    (log,) = logs_in(only_file(tmp_path))
    text = log.predict_log.request.inputs["text"]
    assert read_tensor(text, "text").tolist() == ["grün".encode(), b"ab"]
    assert read_tensor(log.predict_log.response.outputs["copy_bytes"], "y").tolist() == ["grün".encode(), b"ab"]


def test_a_log_is_a_warmup_file(model_dir: ModelDir, start: Start, tmp_path: Path) -> None:
    server = start([logged_model(model_dir("half_plus_two"), tmp_path / "log" / "m")])
    server.settled("m")
    ask_all(server)
    server.post("m:predict", {"instances": [[4.0]]})
    server.post("m:classify", {"signature_name": "classify_x_to_y", "examples": JSON_GIVEN})
    server.post("m:regress", {"signature_name": "regress_x_to_y", "examples": JSON_GIVEN})
    server.stop()
    version = tmp_path / "warm" / "5"
    shutil.copytree(model_dir("half_plus_two") / "00000123", version)
    (version / "assets.extra").mkdir()
    shutil.copy(only_file(tmp_path / "log"), version / "assets.extra" / "tf_serving_warmup_requests")
    warm = start([ModelConfig("other", str(version.parent))])
    state = warm.settled("other")
    assert (state.state, state.error) == (State.AVAILABLE, None)
    metrics = warm.metrics()
    for api in ("Predict", "Classify", "Regress"):
        assert (
            metrics[f':tensorflow:serving:runtime_latency_count{{model_name="other",API="{api}",runtime="TF1"}}'] == 2
        )


def test_a_reload_changes_what_is_logged(model_dir: ModelDir, start: Start, tmp_path: Path) -> None:
    base = model_dir("half_plus_two_tf2")
    server = start([ModelConfig("m", str(base))])
    server.settled("m")

    def ask(value: float) -> None:
        server.post("m:predict", {"instances": [value]})

    def reload(config: messages.LoggingConfig | None) -> None:
        model = messages.ModelConfig(name="m", base_path=str(base), model_platform="tensorflow", logging_config=config)
        server.reload([model])

    ask(1)
    reload(logging_config(tmp_path / "first" / "m"))
    ask(2)
    ask(3)
    reload(logging_config(tmp_path / "second" / "m", collector="tfrecord"))
    ask(4)
    with pytest.raises(grpc.RpcError) as refused:
        reload(logging_config(tmp_path / "third" / "m", collector="kafka"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    ask(5)
    reload(None)
    ask(6)
    server.stop()
    values = [
        [read_tensor(log.predict_log.request.inputs["x"], "x").tolist() for log in logs_in(only_file(tmp_path / name))]
        for name in ("first", "second")
    ]
    assert values == [[[2.0], [3.0]], [[4.0], [5.0]]]
    assert not (tmp_path / "third").exists()


def test_a_model_is_served_though_its_log_cannot_be_written(model_dir: ModelDir, start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = start([logged_model(model_dir("half_plus_two_tf2"), tmp_path / "file" / "m")])
    server.settled("m")
    for _ in range(5):
        assert server.post("m:predict", {"instances": [2.0]}) == {"predictions": [3.0]}

    def logged(outcome: str) -> float:
        return server.metrics()[f'pyserving_request_log_records_total{{outcome="{outcome}"}}']

    wait_until(lambda: logged("failed") >= 5)
    assert (logged("written"), logged("dropped")) == (0, 0)


@pytest.mark.parametrize(("rate", "low", "high"), [(1.0, 2000, 2000), (0.25, 350, 650), (1e-9, 0, 1)])
def test_the_sample_is_as_large_as_the_rate_says(rate: float, low: int, high: int) -> None:
    offered = []
    (log,) = model_logs(
        [ModelConfig("m", "/m", logging_config=logging_config(Path("/log/m"), rate))],
        ["serve"],
        lambda prefix, _: offered.append(prefix),
    ).values()
    for _ in range(2000):
        log.add(LogType.PREDICT, ServableId("m", 1), "", lambda: (b"", b""))
    assert low <= len(offered) <= high
    assert set(offered) <= {"/log/m"}


def test_a_request_that_cannot_be_logged_is_answered_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    config = ModelConfig("m", "/m", logging_config=logging_config(Path("/log/m")))
    log = model_logs([config], ["serve"], lambda *_: pytest.fail("there is nothing to write"))["m"]
    log.add(LogType.PREDICT, ServableId("m", 1), "", lambda: (b"", b"" * (1 // 0)))
    assert "A request to {name: m version: 1} could not be logged" in caplog.text


def test_models_that_are_not_sampled_have_no_log() -> None:
    silent = [ModelConfig("a", "/a"), ModelConfig("b", "/b", logging_config=logging_config(Path("/log/b"), 0.0))]
    assert model_logs(silent, ["serve"], lambda *_: None) == {}


def test_a_server_that_is_killed_while_it_writes_leaves_a_readable_log(model_dir: ModelDir, tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(
        f"""model_config_list {{ config {{
            name: "m" base_path: "{model_dir("half_plus_two_tf2")}" model_platform: "tensorflow"
            logging_config {{
                log_collector_config {{ filename_prefix: "{tmp_path}/log/m" }}
                sampling_config {{ sampling_rate: 1 }}
            }}
        }} }}"""
    )
    port = free_port()
    command = [sys.executable, "-m", "pyserving.cli.model_server", f"--model_config_file={config}", "--port=0"]
    with (tmp_path / "stderr").open("wb") as stderr:
        server = subprocess.Popen([*command, f"--rest_api_port={port}"], stderr=stderr)
    try:
        sent = answer_until_killed(server, port, tmp_path / "log")
    finally:
        server.kill()
        server.wait()
    values = []
    with only_file(tmp_path / "log").open("rb") as file:
        try:
            for record in read_records(file):
                log = messages.PredictionLog.FromString(record)
                values.append(read_tensor(log.predict_log.request.inputs["x"], "x").tolist())
        except ServingError:
            pass  # the last record may be cut off
    assert values == [[float(number), *range(1000)] for number in range(len(values))]
    assert 0 < len(values) <= sent


def answer_until_killed(server: "subprocess.Popen[bytes]", port: int, folder: Path) -> int:
    """Sends requests, one after the other; once the log grows, kills the server. How many were sent."""
    sent = 0
    while True:
        body = json.dumps({"instances": [sent, *range(1000)]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models/m:predict", body)
        try:
            urllib.request.urlopen(request, timeout=30).read()
        except OSError:
            assert server.poll() is None, "the server ended on its own"
            time.sleep(0.05)  # it is not listening yet
            continue
        sent += 1
        if sum(file.stat().st_size for file in folder.glob("*.tfrecord")) > 100_000:
            os.kill(server.pid, signal.SIGKILL)
            return sent
