"""Recorded requests are sent to servers and to versions on disk, and what differs is found."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from golden_requests import golden, predict_log, write_linear
from running_server import RunningServer, example, examples

from pyserving.cli.main import main
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_policy import All
from pyserving.wire.tfrecord import frame_record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2 of a model, of which the second answers otherwise, and requests to the first."""
    folder = tmp_path_factory.mktemp("replay")
    write_linear(folder / "m", 1)
    write_linear(folder / "m", 2, add=1.5)
    (folder / "log").write_bytes(golden(*range(20)))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    model_dir: Callable[[str], Path] = request.getfixturevalue("model_dir")
    models = [
        ModelConfig("m", str(folder / "m"), version_policy=All()),
        ModelConfig("half", str(model_dir("half_plus_two"))),
    ]
    running = RunningServer(models, python_options=PythonOptions(PythonModels.ON))
    running.settled("m", 1)
    running.settled("m", 2)
    running.settled("half")
    yield running
    running.stop()


def replay(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["replay", *map(str, arguments)], catch_exceptions=False)


def report(*arguments: object) -> tuple[int, Any]:
    result = replay(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def addresses(server: RunningServer) -> list[str]:
    ports = server.server.ports
    assert ports is not None
    return [f"http://{ports.rest_address}", f"grpc://{ports.grpc_addresses[0]}"]


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_server_answers_as_recorded_or_does_not(folder: Path, server: RunningServer, protocol: int) -> None:
    address = addresses(server)[protocol]
    code, found = report(folder / "log", address, "--version", 1, "--concurrency", 4)
    assert (code, found["agreed"], found["differed"], found["failed"]) == (0, 20, 0, 0)
    assert found["latency_ms"]["p50"] > 0
    code, found = report(folder / "log", address)
    assert (code, found["agreed"], found["differed"], found["disagreement"]) == (1, 0, 20, 1.0)
    (kind,) = found["kinds"]
    assert (kind["model"], kind["method"], kind["signature"]) == ("m", "Predict", "")
    assert kind["examples"][0] == {
        "request": "record 1",
        "differences": ["output y: element [0] is 1.5, expected 1.0"],
    }
    assert replay(folder / "log", address, "--absolute", 0.5).exit_code == 0
    assert replay(folder / "log", address, "--max-disagreement", 1).exit_code == 0


def test_a_folder_answers_as_recorded_or_does_not(folder: Path) -> None:
    assert report(folder / "log", folder / "m" / "1")[0] == 0
    code, found = report(folder / "log", folder / "m" / "2", "--limit", 3)
    assert (code, found["differed"], found["requests"]) == (1, 3, 3)


def test_one_is_compared_with_another(folder: Path, server: RunningServer) -> None:
    rest, grpc = addresses(server)
    code, found = report(folder / "log", grpc, "--version", 1, "--against", rest, "--against-version", 1)
    assert (code, found["agreed"]) == (0, 20)
    assert found["against_latency_ms"]["p50"] > 0
    code, found = report(folder / "log", folder / "m" / "1", "--against", rest, "--against-version", 2)
    assert (code, found["differed"]) == (1, 20)


def test_all_methods(server: RunningServer, tmp_path: Path) -> None:
    given = examples(example(x=2.0), example(x=4.0))
    classify_spec = messages.ModelSpec(name="half", signature_name="classify_x_to_y")
    regress_spec = messages.ModelSpec(name="half", signature_name="regress_x_to_y")
    regressed = messages.RegressionResponse()
    for value in (3.0, 4.0):
        regressed.result.regressions.add(value=value)
    classified = messages.ClassificationResponse()
    for value in (3.0, 9.0):
        classified.result.classifications.add().classes.add(label="", score=value)
    task = messages.InferenceTask(model_spec=regress_spec, method_name="tensorflow/serving/regress")
    both = messages.MultiInferenceResponse()
    both.results.add().regression_result.CopyFrom(regressed.result)
    logs = [
        messages.PredictionLog(
            regress_log=messages.RegressLog(
                request=messages.RegressionRequest(model_spec=regress_spec, input=given), response=regressed
            )
        ),
        messages.PredictionLog(
            classify_log=messages.ClassifyLog(
                request=messages.ClassificationRequest(model_spec=classify_spec, input=given), response=classified
            )
        ),
        messages.PredictionLog(
            multi_inference_log=messages.MultiInferenceLog(
                request=messages.MultiInferenceRequest(tasks=[task], input=given), response=both
            )
        ),
        messages.PredictionLog(),
    ]
    (tmp_path / "log").write_bytes(b"".join(frame_record(log.SerializeToString()) for log in logs))
    code, found = report(tmp_path / "log", addresses(server)[1])
    assert (code, found["agreed"], found["differed"], found["failed"]) == (1, 2, 1, 0)
    kinds = {kind["method"]: kind for kind in found["kinds"]}
    assert kinds["Classify"]["examples"][0]["differences"] == [
        "output scores: element [1] is 4.0, expected 9.0; 1 of 2 elements differ"
    ]


def test_requests_that_fail_are_told(folder: Path, server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(predict_log([1.0], [3.0], name="nobody") + predict_log([1.0], None))
    code, found = report(tmp_path / "log", addresses(server)[1])
    assert (code, found["failed"], found["unchecked"]) == (1, 1, 1)
    assert "nobody" in found["kinds"][1]["examples"][0]["differences"][0]
    shown = replay(tmp_path / "log", addresses(server)[1])
    assert "nobody Predict record 1: NOT_FOUND" in shown.stdout


def test_the_times_of_a_log(folder: Path, server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(
        b"".join(predict_log([1.0], [3.0], when=1_000_000 + number // 2) for number in range(4))
    )
    address = addresses(server)[1]
    assert replay(tmp_path / "log", address, "--version", 1, "--recorded-rate").exit_code == 0
    assert replay(tmp_path / "log", address, "--version", 1, "--rate", 100).exit_code == 0
    assert replay(tmp_path / "log", address, "--rate", 100, "--recorded-rate").exit_code == 2


def test_what_cannot_be_replayed(folder: Path, server: RunningServer, tmp_path: Path) -> None:
    address = addresses(server)[0]
    missing = replay(tmp_path / "none", address)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr.startswith(f"cannot replay: {tmp_path / 'none'}")
    (tmp_path / "cut").write_bytes(golden(0, 1)[:-1])
    cut = replay(tmp_path / "cut", address, "--version", 1)
    assert (cut.exit_code, "truncated record" in cut.stderr) == (1, True)
    (tmp_path / "empty").write_bytes(b"")
    assert replay(tmp_path / "empty", address).exit_code == 1
    assert replay(folder / "log", "grpc://127.0.0.1:9", "--limit", 2, "--timeout", 2).exit_code == 3
    assert replay(folder / "log", folder / "m" / "1", "--version", 1).exit_code == 1
