import itertools
import json
from contextlib import suppress
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.wire import json_numbers
from pyserving.wire.json_numbers import NumberArray, find_shape, stack_arrays
from pyserving.wire.json_tensors import NotPlainError


def read_array(text: bytes, dtype: DType) -> Array:
    return NumberArray(text, 0, len(text)).to_array(dtype)


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
    text = json.dumps(array.tolist(), indent=data.draw(st.sampled_from([None, 1]))).encode()
    with patch.object(json_numbers, "_PIECE", data.draw(st.sampled_from([64, 256, json_numbers._PIECE]))):
        read = read_array(text, dtype)
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
        got = read_array(text, DType.INT32)
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
        read_array(text, dtype)


@pytest.mark.parametrize("piece", [8, 9, 10, 11, 12, 13, 14, 15, 16, 64])
@pytest.mark.parametrize(
    "text",
    [
        b"[[1,2,3],[4,,6],[7,8,9]]",
        b"[[1,2,3],[4,5,6],[7,8,]]",
        b"[[1,2,3],[,5,6],[7,8,9]]",
        b"[[1,2,3]4,[5,6],[7,8,9]]",
        b"[[1,2,3],4[,5,6],[7,8,9]]",
        b"[[1,2,3],[4,5,6]7,[,8,9]]",
        b"[[1,2,3],[4,5 6,],[7,8,9]]",
        b"[[1,2,3],[4,5,6],[7,8,9],]",
        b"[[1,2,3],[4,5,6],[7,8],9]",
        b"[[1,2,3],[4,5,6,7],[8,9]]",
        b'[[1,2,3],[4,"5,6",7],[8,9,10]]',
        b"[[1,2,3],[4,5,true],[7,8,9]]",
        b"[[1,2,3],[4,05,6],[7,8,9]]",
        b"[[1,2,3],[4,e,6],[7,8,9]]",
        b"[[1,2,3],[4,5,6],[7,8,9]]]",
        b"[[1,2,3],[4,5,6],[7,8,9]",
        b"[[1,2,3],[4,5,6]],[[7,8,9]]",
    ],
)
def test_what_is_wrong_is_seen_wherever_the_text_is_cut(text: bytes, piece: int) -> None:
    with patch.object(json_numbers, "_PIECE", piece):
        right = b"[[1,2,3],[4,5,6],[7,8,9]]"
        with suppress(NotPlainError):  # where no comma lies in a piece
            assert read_array(right, DType.FLOAT).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
        with pytest.raises(NotPlainError):
            read_array(text, DType.FLOAT)


def test_arrays_are_stacked() -> None:
    text = b"[[1,2],[3,4]] [[5, 6], [7, 8]] [5,6]"
    first, second, third = (NumberArray(text, *span) for span in [(0, 13), (14, 30), (31, 36)])
    assert stack_arrays([first, second], DType.INT8).tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    with pytest.raises(NotPlainError):
        stack_arrays([first, third], DType.INT8)


@pytest.mark.filterwarnings("error")
def test_floats_beyond_the_range_of_the_dtype() -> None:
    array = read_array(b"[1e39, -1e39, 1e-45, -1e-45, 1.17549435e-38, 16777217]", DType.FLOAT)
    assert repr(array.tolist()) == repr([np.inf, -np.inf, 0.0, -0.0, float(np.finfo(np.float32).tiny), 16777216.0])
