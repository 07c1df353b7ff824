"""A gate lets through what was tried, and nothing else."""

import json
from typing import Any

import numpy as np
import pytest

from pyserving.acceleration.gate import Gate
from pyserving.acceleration.verdict import Timing, Verdict, best

ROWS = Gate(("x", "ids"), frozenset({((4,), ())}), rows_are_free=True, ranges=((0.0, 255.0), (-3, 9)))
WHOLE = Gate(("x",), frozenset({((2, 4),), ((),)}), rows_are_free=False, ranges=((-1.0, 1.0),))


def rows(x: Any = 1.0, ids: Any = 0, shape: tuple[int, ...] = (3, 4), count: int = 3) -> dict[str, Any]:
    return {"x": np.full(shape, x, np.float32), "ids": np.full(count, ids, np.int64)}


@pytest.mark.parametrize("inputs", [rows(), rows(0, -3), rows(255, 9), rows(shape=(1, 4), count=1)])
def test_admits_what_is_alike(inputs: Any) -> None:
    assert ROWS.admits(inputs)


@pytest.mark.parametrize(
    "inputs",
    [
        *(rows(x) for x in (-0.5, 255.5, np.nan, np.inf, -np.inf)),
        *(rows(ids=ids) for ids in (-4, 10, 2**40)),
        rows(shape=(3, 5)),
        rows(shape=(3, 4, 1)),
        rows(shape=(4,), count=4),
        rows(shape=(0, 4), count=0),
        # TensorFlow may refuse these; others would broadcast the one row
        rows(shape=(1, 4), count=3),
        rows(shape=(3, 4), count=1),
        {"x": np.float32(1).reshape(()), "ids": np.int64(1).reshape(())},
    ],
)
def test_leaves_the_rest_to_tensorflow(inputs: Any) -> None:
    assert not ROWS.admits(inputs)


def test_one_nan_among_many_is_seen() -> None:
    inputs = rows()
    inputs["x"][1, 2] = np.nan
    assert not ROWS.admits(inputs)


def test_whole_shapes() -> None:
    assert WHOLE.admits({"x": np.zeros((2, 4), np.float32)})
    assert WHOLE.admits({"x": np.zeros((), np.float32)})
    assert not WHOLE.admits({"x": np.zeros((3, 4), np.float32)})


@pytest.mark.parametrize("gate", [ROWS, WHOLE])
def test_verdicts_go_through_json(gate: Gate) -> None:
    verdict = Verdict("openvino", "", gate, (Timing("1 row", 2e-3, 1e-3),), 1e-7)
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict
    refused = Verdict("tflite", "answers differ", largest_difference=float("inf"))
    assert Verdict.from_json(json.loads(json.dumps(refused.to_json()))) == refused


def test_the_fastest_that_may_be_used_is_best() -> None:
    def of(engine: str, *seconds: float, refusal: str = "") -> Verdict:
        return Verdict(engine, refusal, ROWS, tuple(Timing(str(each), 1.0, each) for each in seconds))

    quick, quicker = of("a", 0.5, 0.5), of("b", 0.25, 0.9)
    assert best([quick, quicker, of("c", 0.01, refusal="answers differ")]) is quicker
    assert best([of("a", 0.9), of("b", 0.1, 2.0)]) is None  # too little; nowhere slower
    assert "0.50 x" in of("b", 0.1, 2.0).objection
    assert best([Verdict("a")]) is None
