"""Lookup tables: files in, rows out."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import DType
from pyserving.platforms.table.columns import read_column
from pyserving.platforms.table.model import TableModel


def look_up(model: TableModel, keys: np.ndarray) -> dict[str, list]:
    signature = model.signatures["serving_default"]
    (name,) = signature.inputs
    outputs = list(signature.outputs)
    values = model.run(signature, {name: keys}, outputs)
    return {name: array.tolist() for name, array in zip(outputs, values, strict=True)}


def texts(*keys: bytes) -> np.ndarray:
    array = np.empty(len(keys), object)
    array[:] = keys
    return array


def test_csv_with_types_found_or_told(tmp_path: Path):
    (tmp_path / "table.csv").write_text(
        '\ufeffcode,name,price,stock:int32,new,zip\na,"Apfel, rot",1.5,7,true,01234\nb,Birne,,-1,False,99999\n'
    )
    model = TableModel(str(tmp_path))
    signature = model.signatures["serving_default"]
    assert {name: spec.dtype for name, spec in signature.outputs.items()} == {
        "name": DType.STRING,
        "price": DType.DOUBLE,
        "stock": DType.INT32,
        "new": DType.BOOL,
        "zip": DType.STRING,
        "found": DType.BOOL,
    }
    got = look_up(model, texts(b"a", b"none", b"a"))
    assert got == {
        "name": [b"Apfel, rot", b"", b"Apfel, rot"],
        "price": [1.5, 0.0, 1.5],
        "stock": [7, 0, 7],
        "new": [True, False, True],
        "zip": [b"01234", b"", b"01234"],
        "found": [True, False, True],
    }
    assert np.isnan(look_up(model, texts(b"b"))["price"][0])
    assert look_up(model, texts())["found"] == []


def test_tsv_with_number_keys(tmp_path: Path):
    (tmp_path / "table.tsv").write_text('id\ttext\n30\tsay "x"\n-2\tb\n7\tc\n')
    got = look_up(TableModel(str(tmp_path)), np.array([7, 8, 30, -2, 1 << 60, -(1 << 60)]))
    assert got["text"] == [b"c", b"", b'say "x"', b"b", b"", b""]
    assert got["found"] == [True, False, True, True, False, False]


def test_a_vocabulary_as_tensorflow_reads_it(tmp_path: Path):
    (tmp_path / "table.txt").write_bytes("[UNK]\n你好\nabc".encode())
    assert look_up(TableModel(str(tmp_path)), texts(b"abc", "你好".encode(), b"x")) == {
        "line": [2, 1, 0],
        "found": [True, True, False],
    }


def test_parquet(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    table = arrow.table(
        {
            "word": arrow.array(["a", "b", "c"]).dictionary_encode(),
            "vector": arrow.array([[1, 2], [3, 4], [5, 6]], arrow.list_(arrow.float32())),
            "count": arrow.array([1, None, 3], arrow.int64()),
            "raw": arrow.array([b"\xff", None, b""], arrow.binary()),
        }
    )
    parquet.write_table(table, tmp_path / "table.parquet")
    model = TableModel(str(tmp_path))
    assert model.signatures["serving_default"].outputs["vector"].shape == (None, 2)
    assert look_up(model, texts(b"c", b"d", b"b")) == {
        "vector": [[5, 6], [0, 0], [3, 4]],
        "count": [3, 0, 0],
        "raw": [b"", b"", b""],
        "found": [True, False, True],
    }
    (tmp_path / "table.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ServingError, match="it is no Parquet file"):
        TableModel(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names of the columns in the first line"),
        (b"key\na\n", "expected columns beside the keys"),
        (b"key,v\na,1\nb\n", "line 3: expected 2 cells, got 1"),
        (b"key,v\na,1\na,2\n", "the key a comes more than once"),
        (b"key,v\n1,1\n2,1\n1,2\n", "the key 1 comes more than once"),
        (b"key,v,v\na,1,2\n", "named otherwise"),
        (b"key,found\na,1\n", "named otherwise"),
        (b"key,v:int8\na,1\nb,300\n", "column v, row 2: expected int8, got '300'"),
        (b"key,v:bool\na,yes\n", "column v, row 1: expected bool, got 'yes'"),
        (b"key:float32,v\n1,2\n", "keys, in column key, must be whole numbers or strings"),
        (b"key,\na,1\n", "a column has no name"),
        (b"key,v\n\xff,1\n", "it is no such file"),
        (b'key,v\n"a,1\n', "it is no such file"),
    ],
)
def test_what_is_no_table_says_why(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ServingError, match=message):
        TableModel(str(tmp_path))


def test_a_key_of_another_type_is_refused(tmp_path: Path):
    (tmp_path / "table.csv").write_text("key,v\na,1\n")
    with pytest.raises(ServingError, match="must be a string tensor, got int64"):
        look_up(TableModel(str(tmp_path)), np.array([1]))


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), unique=True, min_size=1), st.data())
def test_number_keys_are_found_as_a_dictionary_finds_them(tmp_path_factory, keys, data):
    folder = tmp_path_factory.mktemp("table")
    (folder / "table.csv").write_text("key:int64,row\n" + "".join(f"{key},{row}\n" for row, key in enumerate(keys)))
    asked = data.draw(st.lists(st.sampled_from(keys) | st.integers(-(1 << 63), (1 << 63) - 1), max_size=20))
    got = look_up(TableModel(str(folder)), np.array(asked, np.int64))
    rows = {key: row for row, key in enumerate(keys)}
    assert got == {"row": [rows.get(key, 0) for key in asked], "found": [key in rows for key in asked]}


@given(st.lists(st.text(max_size=8) | st.integers().map(str) | st.floats().map(str), max_size=6))
def test_a_column_of_any_texts_is_read(cells):
    values = read_column("x", cells).values
    assert len(values) == len(cells)
    if values.dtype == object:
        assert values.tolist() == [cell.encode() for cell in cells]
    elif values.dtype == np.int64:
        assert [str(value) for value in values] == cells
