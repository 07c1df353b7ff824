"""Between the arrays of a request and what model code gets and returns."""

from typing import Any

import numpy as np

from pyserving.authoring import TensorType
from pyserving.core.errors import invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.platforms.input_check import check_input
from pyserving.platforms.model import Array, TensorSpec


def to_author(spec: TensorSpec, kind: TensorType, array: Array) -> Array:
    """An input as model code gets it: read-only. Raises INVALID_ARGUMENT where it does not fit its annotation."""
    check_input(spec, array)
    if kind.dtype == "str":
        texts = np.empty(array.shape, object)
        try:
            texts.ravel()[:] = [value.decode() for value in array.ravel().tolist()]
        except UnicodeDecodeError:
            raise invalid_argument(f"input {spec.name} must be UTF-8") from None
        array = texts
    view = array.view()
    view.flags.writeable = False
    return view


def from_author(spec: TensorSpec, value: Any) -> Array:
    """An output as it is sent. Raises ValueError that says what was expected and what came."""
    array = as_array(value, spec.dtype)
    wanted = spec.shape
    if wanted is not None and not (
        len(wanted) == array.ndim
        and all(size is None or size == given for size, given in zip(wanted, array.shape, strict=True))
    ):
        expected = [-1 if size is None else size for size in wanted]
        raise ValueError(f"expected shape {expected}, got {list(array.shape)}")
    return array


def as_array(value: Any, dtype: DType) -> Array:
    """``value``, an array or what numpy makes one of, with this element type.

    It may be converted to another width of the same kind, and from whole to floating point numbers; but no whole
    number may change, and none may be made of a fraction. Raises ValueError.
    """
    wanted = NUMPY_OF[dtype]
    if dtype is DType.STRING:
        return _strings(value)
    array = np.asarray(value, order="C")
    if array.dtype == wanted:
        return array
    converted = None
    if array.dtype.kind in "biufc" and np.can_cast(array.dtype, wanted, "same_kind"):
        converted = array.astype(wanted)
        if wanted.kind in "iu" and not np.array_equal(converted, array):
            raise ValueError(f"expected values of type {dtype.text}, got some that it cannot hold")
    elif array.dtype.kind in "iuf" and wanted.kind == "V" and not wanted.names:  # bfloat16 and its like
        converted = array.astype(wanted)
    if converted is None:
        given = DTYPE_OF[array.dtype].text if array.dtype in DTYPE_OF and array.dtype != object else array.dtype
        raise ValueError(f"expected type {dtype.text}, got {given}")
    return converted


def _strings(value: Any) -> Array:
    array = np.asarray(value, dtype=None if isinstance(value, np.ndarray) else object)
    if array.dtype.kind not in "OUS":
        raise ValueError(f"expected type string, got {array.dtype}")
    values = array.ravel().tolist()
    texts = np.empty(len(values), object)
    for position, one in enumerate(values):
        if isinstance(one, str):
            texts[position] = one.encode()
        elif isinstance(one, bytes):
            texts[position] = one
        else:
            raise ValueError(f"expected values of type str or bytes, got {type(one).__name__}")
    return texts.reshape(array.shape)
