"""What counts as the same answer."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.validation.comparison import differences
from pyserving.validation.tolerance import Tolerance, read_tolerance

USUAL = Tolerance()


def strings(*values: bytes) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def tolerance(text: str = "DT_INVALID", **bounds: float) -> Tolerance:
    return read_tolerance([messages.Tolerance(dtype=messages.DataType.Value(text), **bounds)])


def of_one(expected: Any, found: Any, allowed: Tolerance = USUAL) -> list[str]:
    return differences({"y": np.asarray(expected)}, {"y": np.asarray(found)}, allowed)


@pytest.mark.parametrize("dtype", [dtype for dtype in NUMPY_OF if dtype is not DType.STRING])
def test_an_answer_is_like_itself(dtype: DType) -> None:
    array = np.zeros((2, 3), NUMPY_OF[dtype])
    assert of_one(array, array.copy()) == []
    assert of_one(array[:0], array[:0].copy()) == []


@given(st.lists(st.floats(width=32, allow_subnormal=False), min_size=1))
def test_single_precision_may_be_rounded_and_all_else_counts(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert of_one(array, array.copy()) == []
    finite = np.isfinite(array)
    with np.errstate(all="ignore"):
        rounded = np.where(finite, np.nextafter(array, np.float32(0)), array)
        doubled = array.copy()
        doubled[0] = array[0] * 2 if finite[0] and array[0] else 1
    assert of_one(array, rounded) == []
    if np.isfinite(doubled).all() and np.abs(array[0]) == np.abs(array).max():
        assert of_one(array, doubled) != []


@pytest.mark.parametrize("other", [0.0, np.inf, -np.inf, 1.0])
def test_nan_equals_nan_and_nothing_else(other: float) -> None:
    assert of_one([np.nan, 1.0], [np.nan, 1.0]) == []
    assert of_one([np.nan, 1.0], [other, 1.0]) != []
    assert of_one([other, 1.0], [np.nan, 1.0]) != []
    assert of_one([np.inf], [-np.inf]) != []


def test_whole_numbers_and_strings_must_be_equal() -> None:
    large = 2**62
    assert of_one([1, large], [1, large + 1]) == [
        f"output y: element [1] is {large + 1}, expected {large}; 1 of 2 elements differ"
    ]
    assert of_one([True, False], [True, True]) != []
    texts = differences({"t": strings(b"a", b"b")}, {"t": strings(b"a", b"B")}, USUAL)
    assert texts == ["output t: element [1] is b'B', expected b'b'; 1 of 2 elements differ"]
    quantised = np.zeros(2, NUMPY_OF[DType.QUINT8])
    other = quantised.copy()
    other["quint8"][1] = 3
    assert of_one(quantised, other) == ["output y: element [1] is 3, expected 0; 1 of 2 elements differ"]


def test_names_dtypes_and_shapes_must_be_equal() -> None:
    one, two = np.zeros(1, np.float32), np.zeros(2, np.float32)
    assert differences({"a": one}, {"b": one}, USUAL) == ["output a is missing", "output b was not expected"]
    assert of_one(one, two) == ["output y: expected shape [1], got [2]"]
    assert of_one(one, one.astype(np.float64)) == ["output y: expected dtype float, got double"]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.complex64])
def test_other_types_that_are_rounded_have_bounds_of_their_own(dtype: Any) -> None:
    expected = np.array([1.0, 2.0], dtype)
    near = (expected * dtype(1.00005)).astype(dtype)
    assert of_one(expected, near) == []
    assert of_one(expected, (expected * dtype(1.2)).astype(dtype)) != []


def test_bounds_of_the_config() -> None:
    assert of_one([10.0], [10.9]) != []
    assert of_one([10.0], [10.9], tolerance(relative=0.1)) == []
    assert of_one([10.0], [11.1], tolerance(relative=0.1)) != []
    assert of_one([10.0], [11.1], tolerance(relative=0.1, absolute=0.2)) == []
    assert of_one([0.0], [1e-9], tolerance(relative=0.1)) != []
    assert of_one(np.array([7], np.uint8), np.array([8], np.uint8), tolerance(absolute=1)) != []
    assert of_one(np.array([7], np.uint8), np.array([6], np.uint8), tolerance("DT_UINT8", absolute=1)) == []
    assert of_one(np.array([7], np.uint8), np.array([5], np.uint8), tolerance("DT_UINT8", absolute=1)) != []
    assert of_one(np.array([1.0], np.float32), np.array([1.5], np.float32), tolerance("DT_DOUBLE", absolute=1)) != []


@pytest.mark.parametrize(
    ("dtype", "relative", "text"),
    [
        ("DT_INVALID", -1.0, "Expected a tolerance of 0 or more; got relative: -1 absolute: 0"),
        ("DT_FLOAT", float("nan"), "Expected a tolerance of 0 or more; got relative: nan absolute: 0"),
        ("DT_STRING", 0.1, "Expected a tolerance for a type of numbers; got DT_STRING"),
        ("DT_RESOURCE", 0.1, "Expected a tolerance for a type of numbers; got DT_RESOURCE"),
    ],
)
def test_bounds_that_cannot_be_are_refused(dtype: str, relative: float, text: str) -> None:
    with pytest.raises(ServingError) as caught:
        tolerance(dtype, relative=relative)
    assert caught.value.message == text
