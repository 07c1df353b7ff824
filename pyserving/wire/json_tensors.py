"""JSON values to arrays: the types that a dtype takes, and the errors for everything else.

Two ways lead to an array. ``fill_inputs`` walks over values of the slow reader, in the order and with the error
texts of TensorFlow Serving. ``leaves_of`` and ``make_array`` do the same at the speed of C for values that are right.
"""

from array import array as packed
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array, TensorSpec
from pyserving.wire.base64_text import decode_base64
from pyserving.wire.json_reader import JsonObject, JsonValue
from pyserving.wire.json_text import describe, type_name

MAX_RANK = 32
"""The deepest nesting that every supported numpy can hold."""

# Type codes of array.array, which takes numbers many times as fast as a loop and refuses what does not fit.
_PACKED: dict[DType, str] = {
    DType.FLOAT: "f",
    DType.DOUBLE: "d",
    DType.INT8: "b",
    DType.INT16: "h",
    DType.INT32: "i",
    DType.INT64: "q",
    DType.UINT8: "B",
    DType.UINT32: "I",
    DType.UINT64: "Q",
}

READABLE = frozenset((*_PACKED, DType.STRING, DType.BOOL))
"""The dtypes that JSON can carry to the server."""

_SMALLEST_NORMAL = {dtype: float(np.finfo(NUMPY_OF[dtype]).tiny) for dtype in (DType.FLOAT, DType.DOUBLE)}

_NUMBERS = frozenset((int, float))
_INTEGERS = frozenset((int,))
_BOOLEANS = frozenset((bool,))
_STRINGS = frozenset((str,))
_LISTS = frozenset((list,))
_NOTHING: frozenset[type] = frozenset()


class NotPlainError(Exception):
    """The fast way does not take these values: the slow one takes them, or finds out what is wrong with them."""


def is_base64(value: JsonValue) -> bool:
    """Whether ``value`` is an object of one string, ``b64``, which stands for bytes."""
    if not isinstance(value, dict) or type(value.get("b64")) is not str:
        return False
    return len(value.members if isinstance(value, JsonObject) else value) == 1


def leaves_of(value: JsonValue) -> tuple[Sequence[JsonValue], tuple[int, ...], set[type]]:
    """The values in nested lists, in order, with the shape and the Python types of the values.

    Raises NotPlainError where lists of one level differ in length, or stand beside something else.
    """
    if type(value) is not list:
        return [value], (), {type(value)}
    level: list[JsonValue] = value
    shape = [len(level)]
    kinds = set(map(type, level))
    while list in kinds:
        sizes = set(map(len, level)) if kinds == _LISTS else ()
        if len(sizes) != 1:
            raise NotPlainError
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
        kinds = set(map(type, level))
    return level, tuple(shape), kinds


def make_array(
    leaves: Sequence[JsonValue],
    shape: tuple[int, ...],
    kinds: set[type],
    dtype: DType,
    decode: Callable[[str], bytes] = decode_base64,
) -> Array:
    """An array of ``dtype`` and ``shape``; raises NotPlainError unless ``leaves``, of types ``kinds``, are of it.

    ``decode`` reads base64.

    A number that float32 cannot hold becomes infinite, and one below the smallest normal float becomes zero: the
    real server reads JSON on threads that flush denormal numbers.
    """
    if len(shape) > MAX_RANK:
        raise NotPlainError
    code = _PACKED.get(dtype)
    if code is not None:
        if not kinds <= (_NUMBERS if code in "fd" else _INTEGERS):
            raise NotPlainError
        try:
            flat = np.frombuffer(packed(code, leaves), NUMPY_OF[dtype]) if leaves else np.empty(0, NUMPY_OF[dtype])
        except OverflowError:
            raise NotPlainError from None
        # For a few values Python is quicker than numpy; a zero among them only costs the second look. Where the
        # first value is NaN, so is min().
        if code in "fd" and leaves and (len(leaves) > 64 or not min(map(abs, leaves)) >= _SMALLEST_NORMAL[dtype]):
            flush_denormals(flat, dtype)
    elif dtype == DType.STRING:
        flat = np.empty(len(leaves), object)
        flat[:] = _encode(leaves, kinds, decode)
    elif dtype == DType.BOOL:
        if not kinds <= _BOOLEANS:
            raise NotPlainError
        flat = np.array(leaves, np.bool_)
    elif not leaves:
        flat = np.empty(0, NUMPY_OF[dtype])
    else:
        raise NotPlainError
    return flat if len(shape) == 1 else flat.reshape(shape)


def flush_denormals(flat: Array, dtype: DType) -> None:
    """Makes floats that are too small to be normal zero, in place; their sign stays."""
    small = np.abs(flat) < _SMALLEST_NORMAL[dtype]
    if small.any():
        flat[small] *= 0


def _encode(leaves: Sequence[JsonValue], kinds: set[type], decode: Callable[[str], bytes]) -> list[bytes]:
    if kinds <= _STRINGS:
        return [leaf.encode("utf-8", "surrogateescape") for leaf in leaves]
    values = []
    for leaf in leaves:
        if type(leaf) is str:
            values.append(leaf.encode("utf-8", "surrogateescape"))
        elif type(leaf) is bytes:
            values.append(leaf)
        elif is_base64(leaf):
            values.append(decode(leaf["b64"]))
        else:
            raise NotPlainError
    return values


def fill_inputs(body: JsonObject, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Array], bool]:
    """The inputs that a predict body holds, and whether they came row by row (``instances``).

    Raises INVALID_ARGUMENT, or UNIMPLEMENTED for a dtype that JSON cannot carry.
    """
    if "instances" in body:
        if "inputs" in body:
            raise invalid_argument(
                f"JSON Value: {describe(body)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
                "keys to exist "
            )
        instances = body["instances"]
        if not isinstance(instances, list):
            raise invalid_argument(f"JSON Value: {describe(body)} Expecting 'instances' to be an list/array")
        if not instances:
            raise invalid_argument(f"JSON Value: {describe(body)} No values in 'instances' array")
        return _fill_rows(instances, specs), True
    if "inputs" in body:
        return _fill_columns(body["inputs"], specs), False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _fill_columns(inputs: JsonValue, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(inputs, JsonObject) or is_base64(inputs):
        if len(specs) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        (name,) = specs
        return {name: _Tensor(specs[name].dtype, inputs).array()}
    arrays = {}
    for name in sorted(specs):
        if name not in inputs:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _Tensor(specs[name].dtype, inputs[name]).array()
    return arrays


def _fill_rows(instances: list[JsonValue], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(instances[0], JsonObject) and len(specs) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    tensors: dict[str, _Tensor] = {}
    objects = _is_row_object(instances[0])
    for index, row in enumerate(instances):
        if _is_row_object(row) != objects:
            raise invalid_argument(
                f"Expecting object but got list at item {index} of input list"
                if objects
                else f"Expecting value/list but got object at item {index} of input list"
            )
        if not objects:
            _add_row(tensors, next(iter(specs)), row, specs, f"{index}")
            continue
        for name, value in row.items():
            _add_row(tensors, name, value, specs, f"{index} key: {name}")
        if len(row) != len(specs):
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {describe(row)} keys must be "
                f"equal to: {','.join(sorted(specs))}"
            )
    return {name: tensor.array(len(instances)) for name, tensor in tensors.items()}


def _is_row_object(value: JsonValue) -> bool:
    return isinstance(value, JsonObject) and not is_base64(value)


def _add_row(
    tensors: dict[str, "_Tensor"], name: str, value: JsonValue, specs: Mapping[str, TensorSpec], where: str
) -> None:
    try:
        if name not in specs:
            raise invalid_argument(f"JSON object: does not have named input: {name}")
        if name in tensors:
            tensors[name].add(value)
        else:
            tensors[name] = _Tensor(specs[name].dtype, value)
    except ServingError as error:
        raise invalid_argument(f"Failed to process element: {where} of 'instances' list. Error: {error}") from None


class _Tensor:
    """The leaves of one value, or of several of the same shape, checked one by one."""

    def __init__(self, dtype: DType, value: JsonValue) -> None:
        self._dtype = dtype
        self._leaves: list[JsonValue] = []
        self._shape = _first_shape(value)
        self._fill(value, self._shape)
        self._size = len(self._leaves)

    def add(self, value: JsonValue) -> None:
        """Another value, of the same shape."""
        shape = _first_shape(value)
        before = len(self._leaves)
        self._fill(value, shape)
        size = len(self._leaves) - before
        if size != self._size:
            raise invalid_argument(f"Expecting tensor size: {self._size} but got: {size}")
        if shape != self._shape:
            raise invalid_argument(f"Expecting shape {_show(self._shape)} but got: {_show(shape)}")

    def array(self, rows: int | None = None) -> Array:
        """Of the value's shape; with ``rows``, the number of values, before it."""
        shape = self._shape if rows is None else (rows, *self._shape)
        if len(shape) > MAX_RANK:
            raise invalid_argument(f"Lists are nested {len(shape)} levels deep, expected at most {MAX_RANK}")
        return make_array(self._leaves, shape, set(map(type, self._leaves)), self._dtype)

    def _fill(self, value: JsonValue, shape: tuple[int, ...]) -> None:
        rank = len(shape)
        rest = [iter((value,))]  # of each list on the way to the value at hand
        while rest:
            level = len(rest) - 1
            for item in rest[-1]:
                if not isinstance(item, list):
                    if level != rank:
                        raise invalid_argument(
                            f"JSON Value: {describe(item)} found at incorrect level: {level + 1} in the JSON DOM. "
                            f"Expected at level: {rank}"
                        )
                    self._leaves.append(_check_leaf(item, self._dtype))
                    continue
                if level >= rank:
                    raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {rank}")
                if len(item) != shape[level]:
                    raise invalid_argument(
                        f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: "
                        f"{shape[level]}"
                    )
                rest.append(iter(item))
                break
            else:
                rest.pop()


def _first_shape(value: JsonValue) -> tuple[int, ...]:
    """The shape that a value has if all lists of a level are like the first."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _show(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


_INT32 = (-(2**31), 2**31 - 1)
# What rapidjson must be able to give for the dtype; the narrow types take any int32 at first.
_WIRE_RANGE = {
    DType.INT8: _INT32,
    DType.UINT8: _INT32,
    DType.INT16: _INT32,
    DType.INT32: _INT32,
    DType.INT64: (-(2**63), 2**63 - 1),
    DType.UINT32: (0, 2**32 - 1),
    DType.UINT64: (0, 2**64 - 1),
}


def _check_leaf(value: JsonValue, dtype: DType) -> JsonValue:
    """``value``, if make_array() takes it; the bytes of a base64 object. Raises ServingError."""
    kind = type(value)
    if kind is JsonObject:
        if dtype != DType.STRING:
            raise _wrong_type(value, dtype)
        if not is_base64(value):
            raise invalid_argument(f"JSON Value: {describe(value)} not formatted correctly for base64 data")
        return decode_base64(value["b64"])
    if dtype in _WIRE_RANGE:
        low, high = _WIRE_RANGE[dtype]
        if kind is not int or not low <= value <= high:
            raise _wrong_type(value, dtype)
        limits = np.iinfo(NUMPY_OF[dtype])
        if not limits.min <= value <= limits.max:
            raise invalid_argument(
                f"JSON Value: {value} is out of range for type: {dtype.text}, expected {limits.min} to {limits.max}"
            )
        return value
    accepted = _ACCEPTED.get(dtype)
    if accepted is None:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {describe(value)} to type: {dtype.text}")
    if kind not in accepted:
        raise _wrong_type(value, dtype)
    return value


_ACCEPTED: dict[DType, frozenset[type[Any]]] = {
    DType.FLOAT: _NUMBERS,
    DType.DOUBLE: _NUMBERS,
    DType.STRING: _STRINGS,
    DType.BOOL: _BOOLEANS,
}


def _wrong_type(value: JsonValue, dtype: DType) -> ServingError:
    return invalid_argument(
        f"JSON Value: {describe(value)} Type: {type_name(value)} is not of expected type: {dtype.text}"
    )
