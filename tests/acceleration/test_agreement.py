"""Rounding of single precision agrees; half precision, steps and wrong integers do not."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.acceleration.agreement import disagreement, largest_difference, nudged
from pyserving.platforms.model import Array

SEEDS = st.integers(0, 2**32 - 1)


def layer(x: Array, weights: Array) -> Array:
    result: Array = x @ weights
    return result


@given(SEEDS, st.sampled_from([1e-20, 1.0, 1e20]))
def test_sums_in_another_order_agree(seed: int, size: float) -> None:
    random = np.random.default_rng(seed)
    x = (random.standard_normal((4, 300)) * size).astype(np.float32)
    weights = random.standard_normal((300, 50)).astype(np.float32)
    order = random.permutation(300)
    expected, found = layer(x, weights), layer(x[:, order], weights[order])
    moved = layer(nudged({"x": x})["x"], weights)
    assert disagreement([expected], [moved], [found]) <= 1


@given(SEEDS, st.sampled_from([np.float16, ml_dtypes.bfloat16]), st.booleans())
def test_half_precision_does_not(seed: int, half: type, within: bool) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((4, 300)).astype(np.float32)
    weights = random.standard_normal((300, 50)).astype(np.float32)
    expected = layer(x, weights)
    moved = layer(nudged({"x": x})["x"], weights)
    rounded = layer(x, weights.astype(half).astype(np.float32)) if within else expected.astype(half).astype(np.float32)
    assert disagreement([expected], [moved], [rounded]) > 1


@given(SEEDS)
def test_what_grows_from_layer_to_layer_agrees_though_some_elements_happen_to_move_by_little(seed: int) -> None:
    random = np.random.default_rng(seed)
    expected = random.standard_normal((1, 1000)).astype(np.float32)
    moves = random.standard_normal((2, 1, 1000)).astype(np.float32) * 1e-4
    assert disagreement([expected], [expected + moves[0]], [expected + moves[1]]) <= 1
    assert disagreement([expected], [expected + moves[0]], [expected + 30 * moves[1]]) > 1


def test_a_step_is_no_rounding() -> None:
    """TensorFlow rounds 0.5 to 0; 0.5 and a bit to 1. An engine that rounds 0.5 to 1 is wrong all the same."""
    expected, moved = np.zeros(4, np.float32), np.ones(4, np.float32)
    found = np.array([1, 0, 0, 0], np.float32)
    assert disagreement([expected], [moved], [found]) > 1


@pytest.mark.parametrize(
    ("expected", "found", "agrees"),
    [
        ([np.nan, 1.0], [np.nan, 1.0], True),
        ([np.nan, 1.0], [0.0, 1.0], False),
        ([1.0, 1.0], [np.nan, 1.0], False),
        ([np.inf], [np.inf], True),
        ([np.inf], [-np.inf], False),
        ([np.inf], [3e38], False),
        ([0.0, 0.0], [0.0, 1e-30], False),
        ([], [], True),
    ],
)
def test_of_what_is_no_number(expected: list[float], found: list[float], agrees: bool) -> None:
    a, b = np.array(expected, np.float32), np.array(found, np.float32)
    assert (disagreement([a], [a], [b]) <= 1) is agrees


@given(SEEDS, st.sampled_from([np.int32, np.int64, np.uint8, np.bool_]))
def test_integers_are_the_same_or_wrong_unless_the_nudge_moved_them(seed: int, dtype: type) -> None:
    random = np.random.default_rng(seed)
    expected = random.integers(0, 2, 20).astype(dtype)
    other = expected.copy()
    other[3] = not other[3]
    assert disagreement([expected], [expected], [expected]) == 0
    assert disagreement([expected], [expected], [other]) == np.inf
    assert disagreement([expected], [other], [other]) == 0


def test_shapes_and_dtypes_are_the_same() -> None:
    a = np.ones((2, 3), np.float32)
    for other in (a.reshape(3, 2), a[:1], a.astype(np.float64), a.astype(np.int32)):
        assert disagreement([a], [a], [other]) == np.inf
    assert largest_difference([a], [a[:1]]) == np.inf
    with pytest.raises(ValueError, match="zip"):
        disagreement([a], [a], [])


def test_only_floats_are_nudged() -> None:
    found = nudged({"f": np.array([1.0, np.inf], np.float32), "i": np.array([1]), "b": np.array([True])})
    assert found["f"][0] > 1
    assert found["f"].dtype == np.float32
    assert found["i"].tolist() == [1]
    assert found["b"].tolist() == [True]
