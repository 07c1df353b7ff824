"""What people write for a tensor, as the array that a signature wants."""

from typing import Any

import numpy as np

from pyserving.core.errors import invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.wire.tensor_proto import FLOAT8

_INTEGERS = frozenset(
    (DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64)
)
_NIBBLES = {DType.INT4: (-8, 7), DType.UINT4: (0, 15)}
_QUANTISED = frozenset((DType.QINT8, DType.QUINT8, DType.QINT16, DType.QUINT16, DType.QINT32))
_FLOATS = frozenset((DType.HALF, DType.BFLOAT16, DType.FLOAT, DType.DOUBLE, *FLOAT8))
_COMPLEX = frozenset((DType.COMPLEX64, DType.COMPLEX128))


def to_array(name: str, value: Any, dtype: DType | None = None) -> Array:
    """``value`` as a C-contiguous array of ``dtype``; strings as an object array of bytes (text as UTF-8).

    ``value`` is a number, a text, bytes, lists of these, a numpy array or anything that numpy can make one of. Numbers
    change their width where they fit, and integers become floats where those are wanted; nothing else is converted.
    Without ``dtype``, numpy's choice holds. ``name`` is the input's, for errors. Raises INVALID_ARGUMENT.
    """
    if dtype is not None and dtype not in NUMPY_OF:
        raise invalid_argument(f"input {name}: {dtype.text} is no type that values can be given of")
    array = _natural(name, value, NUMPY_OF[DType.UINT64] if dtype is DType.UINT64 else None)
    if dtype is None:
        if array.dtype not in DTYPE_OF:
            raise invalid_argument(f"input {name}: {array.dtype} is no element type of a tensor")
        return array
    if array.dtype == NUMPY_OF[dtype]:
        return array
    if not array.size and array.dtype == np.float64:  # an empty list: numpy's guess says nothing
        return np.zeros(array.shape, NUMPY_OF[dtype])
    given = DTYPE_OF.get(array.dtype)
    if given is None or not _converts(given, dtype):
        raise invalid_argument(
            f"input {name}: expected values of type {dtype.text}, got {given.text if given else array.dtype}"
        )
    return _converted(name, array, dtype)


def _natural(name: str, value: Any, whole: np.dtype[Any] | None = None) -> Array:
    """The array that numpy makes of it, strings as bytes; integers as ``whole``, where they are wanted so."""
    if isinstance(value, bytes | bytearray | memoryview | str):
        scalar = np.empty((), object)
        scalar[()] = value.encode() if isinstance(value, str) else bytes(value)
        return scalar
    try:
        # As objects, for numpy's own strings lose zero bytes at their ends.
        array = np.asarray(value, object) if isinstance(_first(value), str | bytes) else np.asarray(value)
        if whole is not None and array.dtype == np.float64 and array.size and _integers(value):
            array = np.asarray(value, whole)  # numpy takes some that int64 cannot hold for floats
    except (ValueError, TypeError, OverflowError) as error:
        raise invalid_argument(f"input {name}: no tensor can be made of it: {error}") from None
    if array.dtype.kind in "SUT":
        # From a list once more, for numpy makes texts of the numbers in it.
        array = array.astype(object) if isinstance(value, np.ndarray) else np.asarray(value, object)
    if array.dtype == object:
        return _strings(name, array)
    return np.ascontiguousarray(array) if array.ndim else array


def _integers(value: Any) -> bool:
    """Whether nested lists hold integers alone."""
    return all(map(_integers, value)) if isinstance(value, list | tuple) else isinstance(value, int | np.integer)


def _first(value: Any) -> Any:
    """The first element of nested lists."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return value


def _strings(name: str, array: Array) -> Array:
    encoded = np.empty(array.size, object)
    for position, value in enumerate(array.ravel().tolist()):
        if isinstance(value, str):
            encoded[position] = value.encode()
        elif isinstance(value, bytes):
            encoded[position] = value
        else:
            raise invalid_argument(
                f"input {name}: expected numbers or strings, all of one kind, got {type(value).__name__}"
            )
    return encoded.reshape(array.shape)


def _converts(given: DType, wanted: DType) -> bool:
    if given in _INTEGERS:
        return wanted in _INTEGERS | _NIBBLES.keys() | _QUANTISED | _FLOATS | _COMPLEX
    if given in _FLOATS:
        return wanted in _FLOATS | _COMPLEX
    return given in _COMPLEX and wanted in _COMPLEX


def _converted(name: str, array: Array, dtype: DType) -> Array:
    target = NUMPY_OF[dtype]
    if dtype in _NIBBLES:
        _check_range(name, array, *_NIBBLES[dtype], dtype)
    elif dtype in _INTEGERS or dtype in _QUANTISED:
        plain = target[0] if target.names else target
        limits = np.iinfo(plain)
        _check_range(name, array, int(limits.min), int(limits.max), dtype)
        return array.astype(plain).view(target) if target.names else array.astype(target)
    with np.errstate(over="ignore"):  # too large a float is infinite, as for everyone who narrows one
        return array.astype(target)


def _check_range(name: str, array: Array, low: int, high: int, dtype: DType) -> None:
    if not array.size:
        return
    for extreme in (int(array.min()), int(array.max())):
        if not low <= extreme <= high:
            raise invalid_argument(f"input {name}: {extreme} is out of range for {dtype.text} ({low} to {high})")
