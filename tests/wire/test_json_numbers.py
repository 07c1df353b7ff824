import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.wire.json_numbers import NumberArray, find_shape
from pyserving.wire.json_tensors import NotPlainError

DTYPES = [
    DType.FLOAT,
    DType.DOUBLE,
    DType.INT8,
    DType.INT16,
    DType.INT32,
    DType.INT64,
    DType.UINT8,
    DType.UINT32,
    DType.UINT64,
]


@given(st.data())
def test_arrays_come_back(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    shapes = npst.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=4)
    elements = (
        {"allow_nan": False, "allow_infinity": False, "allow_subnormal": False} if dtype <= DType.DOUBLE else None
    )
    array = data.draw(npst.arrays(NUMPY_OF[dtype], shapes, elements=elements))
    read = NumberArray(json.dumps(array.tolist(), indent=data.draw(st.sampled_from([None, 1]))).encode()).to_array(
        dtype
    )
    assert read.dtype == array.dtype
    assert read.shape == array.shape
    assert read.tobytes() == array.tobytes()


def ragged_lists() -> st.SearchStrategy[object]:
    return st.recursive(st.just(1), lambda inner: st.lists(inner, max_size=3), max_leaves=12).filter(
        lambda value: isinstance(value, list)
    )


@given(ragged_lists())
def test_only_regular_nesting_has_a_shape(value: list[object]) -> None:
    try:
        want = np.array(value)  # numpy refuses what is ragged
    except ValueError:
        want = None
    text = json.dumps(value).encode()
    try:
        got = NumberArray(text).to_array(DType.INT32)
    except NotPlainError:
        assert want is None or not want.size  # an empty one may be left to others
    else:
        assert want is not None
        assert got.shape == want.shape


@pytest.mark.parametrize("shape", list(itertools.product([1, 2, 3], repeat=3)))
def test_find_shape(shape: tuple[int, ...]) -> None:
    text = json.dumps(np.zeros(shape, int).tolist()).translate({ord("0"): None, ord(" "): None})
    assert find_shape(text.encode()) == shape


@pytest.mark.parametrize(
    "structure",
    [b"", b"[", b"]", b"[]]", b"[][]", b"[[]", b"[],", b"[[],]", b"[[],[,]]", b"[[,],[]]", b"[tru]", b"," * 9],
)
def test_find_shape_refuses(structure: bytes) -> None:
    with pytest.raises(NotPlainError):
        find_shape(structure)


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        (b"[true]", DType.FLOAT),
        (b"[1,null]", DType.FLOAT),
        (b'["1"]', DType.FLOAT),
        (b'["[",1]', DType.FLOAT),
        (b"[{}]", DType.FLOAT),
        (b"[NaN]", DType.FLOAT),
        (b"[1.0]", DType.INT32),
        (b"[1e0]", DType.INT64),
        (b"[128]", DType.INT8),
        (b"[-1]", DType.UINT8),
        (b"[4294967296]", DType.UINT32),
        (b"[9223372036854775808]", DType.INT64),
        (b"[-1]", DType.UINT64),
        (b"[18446744073709551616]", DType.DOUBLE),
        (b"[1]", DType.HALF),
        (b"[1]", DType.BOOL),
        (b"[1]", DType.STRING),
        (b"1", DType.FLOAT),
        (b"{}", DType.FLOAT),
        (b"[1", DType.FLOAT),
        (b"[1]]", DType.FLOAT),
        (b"[1],[2]", DType.FLOAT),
        (b"[" * 2000 + b"]" * 2000, DType.FLOAT),
        (b"[" * 33 + b"1" + b"]" * 33, DType.FLOAT),
    ],
)
def test_refused(text: bytes, dtype: DType) -> None:
    with pytest.raises(NotPlainError):
        NumberArray(text).to_array(dtype)


def test_texts_may_be_open_at_the_same_time_but_give_their_array_once() -> None:
    first, second = NumberArray(b"[1]"), NumberArray(b"[2, 3]")
    assert second.to_array(DType.INT32).tolist() == [2, 3]
    third = NumberArray(b"[4]")
    assert first.to_array(DType.INT32).tolist() == [1]
    assert third.to_array(DType.INT32).tolist() == [4]
    with pytest.raises(NotPlainError):
        third.to_array(DType.INT32)


@pytest.mark.filterwarnings("error")
def test_floats_beyond_the_range_of_the_dtype() -> None:
    array = NumberArray(b"[1e39, -1e39, 1e-45, -1e-45, 1.17549435e-38, 16777217]").to_array(DType.FLOAT)
    assert repr(array.tolist()) == repr([np.inf, -np.inf, 0.0, -0.0, float(np.finfo(np.float32).tiny), 16777216.0])
