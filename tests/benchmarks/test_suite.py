"""The suite for real, as short as it gets, and what its command line makes of words."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc")

from benchmarks import closed_loop, report, suite
from benchmarks.answers import WrongAnswerError, compare
from benchmarks.contenders import CONTENDERS, reference
from benchmarks.suite import Case, Pace, Plan
from benchmarks.workloads import WORKLOADS
from pyserving.protos import messages
from pyserving.wire.tensor_proto import read_tensor


@pytest.mark.tensorflow
def test_pyserving_and_its_floors_are_measured() -> None:
    pytest.importorskip("tensorflow")
    pytest.importorskip("keras")
    if missing := closed_loop.missing_tools():
        pytest.skip(f"needs {' and '.join(missing)}")
    cases = [Case("half_plus_two.rest", 2), Case("half_plus_two.grpc", 2)]
    paces = [Pace("half_plus_two.rest", 50)]
    plan = Plan([CONTENDERS["echo"], CONTENDERS["pyserving"]], True, cases, paces, 1, 1)
    results = suite.run(plan)
    assert not results.errors
    assert not results.not_available
    found = json.loads(json.dumps(report.as_json(results, report.machine(), report.machine())))
    assert {(entry["workload"], entry["contender"]) for entry in found["closed_loop"]} == {
        (case.workload, key) for case in cases for key in ("echo", "engine", "pyserving")
    }
    for entry in found["closed_loop"]:
        assert entry["samples"][0]["requests"] > 0
        assert entry["samples"][0]["failed"] == 0
        assert entry["resident_mb"] > 10
    assert [entry["requests"] for entry in found["open_loop"]] == [50, 50]


def test_every_workload_is_the_same_in_json_and_as_a_message() -> None:
    for workload in WORKLOADS.values():
        if workload.batch == 8 or workload.model in ("mobilenet_v2", "resnet50"):  # the same images, slowly
            continue
        request = messages.PredictRequest.FromString(workload.message)
        tensor = read_tensor(request.inputs[workload.input_name], workload.input_name)
        assert request.model_spec.name == workload.model
        assert len(workload.rows) == workload.batch == len(tensor)
        np.testing.assert_array_equal(tensor, workload.instances)
        if workload.instances.dtype != object:
            np.testing.assert_array_equal(np.array(json.loads(workload.json)["instances"], np.float32), tensor)


def test_a_v2_request_and_its_answer() -> None:
    mlserver = CONTENDERS["mlserver"]
    (tensor,) = json.loads(mlserver.body(WORKLOADS["half_plus_two.rest"]))["inputs"]
    assert tensor == {"name": "x", "datatype": "FP32", "shape": [3], "data": [1.0, 2.0, 5.0]}
    answer = {"outputs": [{"datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]}
    assert mlserver.predictions(answer) == [[1, 2, 3], [4, 5, 6]]
    answer = {"outputs": [{"datatype": "FP32", "shape": [3, 1], "data": [1, 2, 3]}]}
    assert mlserver.predictions(answer) == [1, 2, 3]
    answer = {"outputs": [{"datatype": "BYTES", "shape": [2, 1], "data": ["A", "B"]}]}
    assert mlserver.predictions(answer) == ["A", "B"]


@pytest.mark.parametrize(
    "values", [[2.5, 3.0], [2.5, 3.0, 4.6], [[2.5], [3.0], [4.5]], [2.5, 3.0, float("nan")]], ids=str
)
def test_a_wrong_answer_is_told(values: object) -> None:
    with pytest.raises(WrongAnswerError, match="expected"):
        compare(values, np.array([2.5, 3.0, 4.5], np.float32))


def test_a_right_answer_may_differ_in_its_last_digits() -> None:
    compare([2.5, 3.0, 4.500001], np.array([2.5, 3.0, 4.5], np.float32))
    compare(["A", b"\xff"], np.array([b"A", b"\xff"]))
    with pytest.raises(WrongAnswerError, match="expected"):
        compare(["A", "b"], np.array([b"A", b"B"]))


def test_a_reference_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no program"):
        reference(str(tmp_path / "tensorflow_model_server"))


def test_the_time_that_is_told_beforehand_counts_all_that_run() -> None:
    rest_only, both = CONTENDERS["fastapi"], CONTENDERS["pyserving"]
    plan = Plan(
        [rest_only, both], True, [Case("mnist.rest", 8), Case("mnist.grpc", 8)], [Pace("mnist.rest", 9)], 2, 3.0
    )
    jobs = (3 + 2 + 2) * 2
    assert plan.expected_seconds() == pytest.approx(jobs * (3.0 + suite._BETWEEN_SECONDS) + 2 * suite._START_SECONDS)
