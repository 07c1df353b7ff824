"""The files that hold tables: CSV, TSV, Parquet, and vocabularies of one key a line."""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Array
from pyserving.platforms.table.columns import Column, read_column


def find_file(folder: str) -> str | None:
    """The path of the table in a version folder."""
    paths = (os.path.join(folder, name) for name in _READERS)
    return next((path for path in paths if os.path.isfile(path)), None)


def read_file(path: str) -> list[Column]:
    """All columns, of which the first has the keys. Raises ServingError."""
    try:
        return _READERS[os.path.basename(path)](path)
    except ServingError as error:
        raise ServingError(error.code, f"{path}: {error.message}") from None
    except OSError as error:
        raise ServingError(Code.NOT_FOUND, f"{path} cannot be read: {error.strerror}") from None


def _read_csv(path: str) -> list[Column]:
    return _read_separated(path, csv.reader, delimiter=",", strict=True)


def _read_tsv(path: str) -> list[Column]:
    return _read_separated(path, csv.reader, delimiter="\t", quoting=csv.QUOTE_NONE)


def _read_separated(path: str, reader: Callable[..., Any], **dialect: Any) -> list[Column]:
    """The first line has the names of the columns."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = reader(file, **dialect)
            headings = next(lines, None)
            if not headings:
                raise invalid_argument("expected the names of the columns in the first line, got nothing")
            cells: list[list[str]] = [[] for _ in headings]
            for line in lines:
                if not line:
                    continue
                if len(line) != len(headings):
                    raise invalid_argument(f"line {lines.line_num}: expected {len(headings)} cells, got {len(line)}")
                for column, cell in zip(cells, line, strict=True):
                    column.append(cell)
    except (UnicodeDecodeError, csv.Error) as error:
        raise invalid_argument(f"it is no such file: {error}") from None
    return [read_column(heading, column) for heading, column in zip(headings, cells, strict=True)]


def _read_vocabulary(path: str) -> list[Column]:
    """As ``tf.lookup.TextFileInitializer`` reads a vocabulary: each line is a key, its number, from 0, the value."""
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    keys = np.empty(len(lines), object)
    keys[:] = lines
    return [Column("key", keys), Column("line", np.arange(len(lines), dtype=np.int64))]


def _read_parquet(path: str) -> list[Column]:
    """Nulls become the values that a missing key has; lists of numbers, all of one length, become vectors."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ServingError(Code.FAILED_PRECONDITION, "it needs PyArrow: pip install 'pyserving[parquet]'") from None
    try:
        table = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise invalid_argument(f"it is no Parquet file: {error}") from None
    columns = zip(table.column_names, table.columns, strict=True)
    return [Column(name, _from_arrow(name, column)) for name, column in columns]


def _from_arrow(name: str, column: Any) -> Array:
    import pyarrow as arrow

    types = arrow.types
    kind = column.type
    if types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        values = np.empty(len(column), object)
        values[:] = [_bytes(value) for value in column.to_pylist()]
        return values
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        zero = arrow.scalar(False if types.is_boolean(kind) else 0, type=kind)
        return np.array(column.fill_null(zero).to_numpy())
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        try:
            vectors = np.array(column.to_pylist(), dtype=kind.value_type.to_pandas_dtype())
        except (ValueError, TypeError):
            vectors = np.empty(0)
        if vectors.ndim == 2:
            return vectors
        raise invalid_argument(f"column {name}: expected lists of numbers, all of the same length")
    raise invalid_argument(f"column {name} is of type {kind}, which no tensor can have")


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


_READERS: Mapping[str, Callable[[str], list[Column]]] = {
    "table.csv": _read_csv,
    "table.tsv": _read_tsv,
    "table.parquet": _read_parquet,
    "table.txt": _read_vocabulary,
}
FILE_NAMES: Sequence[str] = tuple(_READERS)
