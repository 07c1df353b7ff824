"""Answers as JSON: named arrays to the body of a predict response, and errors.

The layout is compact. Floats are written with the fewest digits that read back to the same value of their own width;
NaN, Infinity and -Infinity are written as those tokens, as TensorFlow Serving does, though JSON has no such numbers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from pyserving.core.errors import invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF
from pyserving.platforms.model import Array
from pyserving.wire.base64_text import encode_base64
from pyserving.wire.breath import breathe

# dtypes as numpy's characters: bool, int8 to int64, uint8, uint32, uint64, half, float, double. The real server
# writes no uint16, bfloat16 or complex numbers.
_NUMBERS = frozenset("?bhilqBILQefd")

_PIECE = 16 << 10
"""Numbers written at a time: half a millisecond's work."""


def write_error(message: str) -> bytes:
    """``{"error": message}``; what UTF-8 cannot carry becomes question marks."""
    try:
        return orjson.dumps({"error": message})
    except TypeError:
        return orjson.dumps({"error": message.encode(errors="replace").decode()})


def write_predict(outputs: Mapping[str, Array], row: bool) -> bytes:
    """The body of a predict response: ``predictions`` row by row, or ``outputs``.

    A single output is written bare, several as objects by name; strings of outputs whose names end in ``_bytes`` as
    ``{"b64": ...}``. Strings are object arrays of bytes. Raises INVALID_ARGUMENT where rows are asked for and the
    outputs are not of one first dimension, for a dtype that JSON cannot carry, and for a string that is not UTF-8.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    if row:
        _check_rows(outputs)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return b"".join((b'{"predictions":' if row else b'{"outputs":', *_array_parts(name, array), b"}"))
    if row:
        return b'{"predictions":[' + b",".join(_row_objects(outputs)) + b"]}"
    members = [orjson.dumps(name) + b":" + array_text(name, array) for name, array in outputs.items()]
    return b'{"outputs":{' + b",".join(members) + b"}}"


def write_classes(labels: Array | None, scores: Array | None) -> bytes:
    """The body of a classify response: ``results``, for each example its [label, score] pairs.

    Both are [examples, classes]; one may be None: labels are then empty, scores 0.
    """
    given = labels if labels is not None else scores
    assert given is not None
    count, width = given.shape
    names = _value_texts("classes", labels) if labels is not None else [b'""'] * given.size
    numbers = _row_texts("scores", scores.ravel()) if scores is not None and scores.size else [b"0.0"] * given.size
    pairs = [b"[" + name + b"," + number + b"]" for name, number in zip(names, numbers, strict=True)]
    rows = [b"[" + b",".join(pairs[i * width : (i + 1) * width]) + b"]" for i in range(count)]
    return b'{"results":[' + b",".join(rows) + b"]}"


def write_values(values: Array) -> bytes:
    """The body of a regress response: ``results``, a number for each example."""
    return b'{"results":' + array_text("outputs", values) + b"}"


def _check_rows(outputs: Mapping[str, Array]) -> None:
    rows = -1
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if rows not in (-1, len(array)):
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
        rows = len(array)


def _row_objects(outputs: Mapping[str, Array]) -> list[bytes]:
    """One JSON object for each row."""
    template = b"{" + b",".join(orjson.dumps(name).replace(b"%", b"%%") + b":%b" for name in outputs) + b"}"
    columns = [_row_texts(name, array) for name, array in outputs.items()]
    return [template % values for values in zip(*columns, strict=True)]


def _row_texts(name: str, array: Array) -> list[bytes]:
    """The JSON text of each row: the text of the whole, cut where rows meet."""
    if not array.size or array.dtype.char not in _NUMBERS:
        return [array_text(name, value) for value in array] if array.ndim > 1 else _value_texts(name, array)
    inner = array.ndim - 1
    opening, closing = b"[" * inner, b"]" * inner
    # Rows meet at the only commas with so many brackets on both sides.
    rows = array_text(name, array)[1 + inner : -1 - inner].split(closing + b"," + opening)
    return [opening + text + closing for text in rows] if inner else rows


def array_text(name: str, array: Array) -> bytes:
    """The JSON text of a whole array; ``name`` is of the output that it is, for errors and the ``_bytes`` rule."""
    return b"".join(_array_parts(name, array))


def _array_parts(name: str, array: Array) -> list[bytes | memoryview]:
    """The JSON text of a whole array, cut where that is convenient."""
    parts: list[bytes | memoryview] = []
    if array.dtype.char in _NUMBERS:
        _add_numbers(array if array.ndim and array.flags.c_contiguous else _contiguous(array), parts)
    else:
        nested = np.empty(array.size, object)
        nested[:] = _values(name, array)
        parts.append(orjson.dumps(nested.reshape(array.shape).tolist()))
    return parts


def _add_numbers(array: Array, parts: list[bytes | memoryview]) -> None:
    if array.size <= _PIECE:
        parts.append(_numbers_text(array))
        return
    row_size = array[0].size
    parts.append(b"[")
    if row_size > _PIECE:
        for row in array:
            _add_numbers(row, parts)
            parts.append(b",")
    else:
        step = _PIECE // row_size
        for at in range(0, len(array), step):
            parts += (memoryview(_numbers_text(array[at : at + step]))[1:-1], b",")
            breathe()
    parts[-1] = b"]"


def _numbers_text(array: Array) -> bytes:
    text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    return _name_infinite(text, array) if b"null" in text else text


def _value_texts(name: str, array: Array) -> list[bytes]:
    return [orjson.dumps(value) for value in _values(name, array)]


def _contiguous(array: Array) -> Any:
    return np.ascontiguousarray(array) if array.ndim else array[()]


def _name_infinite(text: bytes, array: Array) -> bytes:
    """Puts the tokens where orjson wrote ``null``, which stands for each value that is not finite."""
    flat = array.ravel()
    tokens = [
        b"NaN" if value != value else b"Infinity" if value > 0 else b"-Infinity"
        for value in flat[~np.isfinite(flat)].tolist()
    ]
    pieces = text.split(b"null")
    return b"".join(piece + token for piece, token in zip(pieces, [*tokens, b""], strict=True))


def _values(name: str, array: Array) -> list[Any]:
    """The elements of an array that is not of numbers, as orjson takes them."""
    if array.size and array.dtype != object:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {DTYPE_OF[array.dtype].text}")
    values: list[bytes] = array.ravel().tolist()
    if name.endswith("_bytes"):
        return [{"b64": encode_base64(value)} for value in values]
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise invalid_argument(
            f"Output {name} has a string that is not UTF-8, which JSON cannot carry; end the output's name in _bytes "
            "to get base64"
        ) from None
