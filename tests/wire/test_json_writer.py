import base64
import json
from typing import Any
from unittest.mock import patch

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.model import Array
from pyserving.wire import json_writer
from pyserving.wire.json_writer import write_error, write_predict

DTYPES = ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u4", "u8", "?"]


def arrays(min_dims: int = 0, rows: int | None = None) -> st.SearchStrategy[Array]:
    shapes = npst.array_shapes(min_dims=min_dims, max_dims=4, min_side=0, max_side=3)
    if rows is not None:
        shapes = shapes.map(lambda shape: (rows, *shape[1:]))
    return st.sampled_from(DTYPES).flatmap(lambda dtype: npst.arrays(np.dtype(dtype), shapes))


def plain(array: Array) -> Any:
    """``array`` as JSON shows it: lists below an empty one are not seen."""
    return array.tolist()


def same(text: Any, array: Array) -> None:
    """Checks that ``text``, as parsed, reads back to ``array`` bit for bit, but for the kind of NaN."""
    back = np.array(text, dtype=object)
    values = [type(value) for value in back.ravel().tolist()]
    expected = bool if array.dtype == bool else int if array.dtype.kind in "iu" else float
    assert set(values) <= {expected}
    assert repr(np.array(text, dtype=array.dtype).ravel().tolist()) == repr(array.ravel().tolist())
    assert plain(np.zeros_like(array)) == _zeros(text)


def _zeros(text: Any) -> Any:
    return [_zeros(item) for item in text] if isinstance(text, list) else type(text)(0)


@given(arrays())
def test_one_output_by_column(array: Array) -> None:
    body = json.loads(write_predict({"y": array}, row=False))
    assert body.keys() == {"outputs"}
    same(body["outputs"], array)


@given(arrays(min_dims=1))
def test_one_output_by_row(array: Array) -> None:
    body = json.loads(write_predict({"y": array}, row=True))
    assert body.keys() == {"predictions"}
    same(body["predictions"], array)


@given(st.integers(0, 3).flatmap(lambda rows: st.lists(arrays(min_dims=1, rows=rows), min_size=2, max_size=3)))
def test_several_outputs(values: list[Array]) -> None:
    outputs = {f'y%d"{i}': value for i, value in enumerate(values)}
    columns = json.loads(write_predict(outputs, row=False))["outputs"]
    rows = json.loads(write_predict(outputs, row=True))["predictions"]
    assert columns.keys() == outputs.keys()
    assert len(rows) == len(values[0])
    for name, array in outputs.items():
        same(columns[name], array)
        if rows:
            same([row[name] for row in rows], array)
    assert all(row.keys() == outputs.keys() for row in rows)


def test_layout() -> None:
    floats = np.array([2.5, 3, 4.5], np.float32)
    assert write_predict({"y": floats}, row=True) == b'{"predictions":[2.5,3.0,4.5]}'
    assert write_predict({"y": floats}, row=False) == b'{"outputs":[2.5,3.0,4.5]}'
    assert write_predict({"y": np.array(7.0, np.float32)}, row=False) == b'{"outputs":7.0}'
    two = {"a": floats[:2], "b": np.array([[1], [2]])}
    assert write_predict(two, row=True) == b'{"predictions":[{"a":2.5,"b":[1]},{"a":3.0,"b":[2]}]}'
    assert write_predict(two, row=False) == b'{"outputs":{"a":[2.5,3.0],"b":[[1],[2]]}}'
    assert write_predict({"y": np.zeros((0, 3), np.float32)}, row=True) == b'{"predictions":[]}'
    assert write_predict({"y": np.zeros((2, 0), np.float32)}, row=True) == b'{"predictions":[[],[]]}'


def test_float32_has_the_digits_of_float32() -> None:
    assert write_predict({"y": np.array([0.1, 16777216], np.float32)}, row=True) == b'{"predictions":[0.1,16777216.0]}'
    both = {"y": np.array([0.1], np.float32), "z": np.array(["a"], object)}
    both["z"][0] = b"a"
    assert write_predict(both, row=True) == b'{"predictions":[{"y":0.1,"z":"a"}]}'


def test_numbers_that_are_not_finite() -> None:
    array = np.array([[1, np.nan], [np.inf, -np.inf]], np.float32)
    assert write_predict({"y": array}, row=True) == b'{"predictions":[[1.0,NaN],[Infinity,-Infinity]]}'
    assert write_predict({"y": array[0, 1]}, row=False) == b'{"outputs":NaN}'
    several = {"null": array[:, 0], "b": array}
    assert write_predict(several, row=True) == (
        b'{"predictions":[{"null":1.0,"b":[1.0,NaN]},{"null":Infinity,"b":[Infinity,-Infinity]}]}'
    )
    assert write_predict({"null": array[:1]}, row=False) == b'{"outputs":[[1.0,NaN]]}'


def test_arrays_that_are_not_contiguous() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert write_predict({"y": array.T}, row=True) == b'{"predictions":[[0.0,3.0],[1.0,4.0],[2.0,5.0]]}'
    array[1, 1] = np.nan
    assert write_predict({"y": array.T}, row=True) == b'{"predictions":[[0.0,3.0],[1.0,NaN],[2.0,5.0]]}'


@given(arrays(min_dims=1), st.integers(1, 5))
def test_long_arrays_are_written_as_short_ones(array: Array, piece: int) -> None:
    outputs = {"y": array}
    whole = write_predict(outputs, row=True)
    with patch.object(json_writer, "_PIECE", piece):
        assert write_predict(outputs, row=True) == whole
        assert write_predict({"a": array, **outputs}, row=False)[-2 - len(whole) :].endswith(whole[15:-1] + b"}}")


def strings(*values: bytes) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1), st.lists(st.binary(), min_size=1))
def test_strings_and_bytes(texts: list[str], values: list[bytes]) -> None:
    body = write_predict({"y": strings(*(text.encode() for text in texts))}, row=True)
    assert json.loads(body) == {"predictions": texts}
    body = write_predict({"y_bytes": strings(*values).reshape(-1, 1)}, row=True)
    assert json.loads(body) == {"predictions": [[{"b64": base64.b64encode(value).decode()}] for value in values]}


def test_strings_beside_numbers() -> None:
    outputs = {"s": strings(b"a", b"b"), "i_bytes": np.array([1, 2]), "m_bytes": strings(b"c", b"d").reshape(2, 1)}
    assert json.loads(write_predict(outputs, row=True))["predictions"] == [
        {"s": "a", "i_bytes": 1, "m_bytes": [{"b64": "Yw=="}]},
        {"s": "b", "i_bytes": 2, "m_bytes": [{"b64": "ZA=="}]},
    ]
    assert write_predict({"s": strings(b"a").reshape(())}, row=False) == b'{"outputs":"a"}'
    empty = {"s": strings().reshape(0, 2), "n": np.zeros((0, 2))}
    assert json.loads(write_predict(empty, row=True)) == {"predictions": []}
    assert json.loads(write_predict(empty, row=False)) == {"outputs": {"s": [], "n": []}}


@pytest.mark.parametrize(
    ("outputs", "row", "text"),
    [
        ({}, True, "Cannot convert empty tensor map to JSON"),
        ({"total": np.float32(1)}, True, "Tensor name: total has no shape information "),
        (
            {"a": np.zeros(2), "b": np.zeros((3, 2))},
            True,
            "Tensor name: b has inconsistent batch size: 3 expecting: 2",
        ),
        ({"a": np.zeros(1, np.complex64)}, True, "Failed to write JSON value for tensor type: complex64"),
        ({"a": np.zeros(1, np.uint16)}, False, "Failed to write JSON value for tensor type: uint16"),
        ({"a": np.zeros((), ml_dtypes.bfloat16)}, False, "Failed to write JSON value for tensor type: bfloat16"),
        (
            {"a": np.zeros((1, 1), ml_dtypes.bfloat16), "b": np.zeros(1)},
            True,
            "Failed to write JSON value for tensor type: bfloat16",
        ),
        (
            {"a": strings(b"\xff")},
            True,
            "Output a has a string that is not UTF-8, which JSON cannot carry; end the output's name in _bytes to get "
            "base64",
        ),
    ],
)
def test_what_cannot_be_written(outputs: dict[str, Array], row: bool, text: str) -> None:
    with pytest.raises(ServingError) as caught:
        write_predict(outputs, row)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == text


def test_nothing_of_any_dtype_can_be_written() -> None:
    assert write_predict({"y": np.zeros((2, 0), np.complex64)}, row=True) == b'{"predictions":[[],[]]}'


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_errors(message: str) -> None:
    assert json.loads(write_error(message)) == {"error": message}


def test_errors_are_always_utf8() -> None:
    message = b"a\xffb".decode("utf-8", "surrogateescape")
    assert json.loads(write_error(message + "\ud800é")) == {"error": "a?b?é"}
