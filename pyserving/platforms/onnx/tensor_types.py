"""ONNX Runtime's element types, and the arrays that it takes and gives."""

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Array

# As ``NodeArg.type`` writes them. Those that are not here (bfloat16, 8-bit floats, complex, 4-bit integers) cannot be
# passed as numpy arrays.
_DTYPE_OF = {
    "tensor(float)": DType.FLOAT,
    "tensor(double)": DType.DOUBLE,
    "tensor(float16)": DType.HALF,
    "tensor(int8)": DType.INT8,
    "tensor(int16)": DType.INT16,
    "tensor(int32)": DType.INT32,
    "tensor(int64)": DType.INT64,
    "tensor(uint8)": DType.UINT8,
    "tensor(uint16)": DType.UINT16,
    "tensor(uint32)": DType.UINT32,
    "tensor(uint64)": DType.UINT64,
    "tensor(bool)": DType.BOOL,
    "tensor(string)": DType.STRING,
}


def dtype_of(name: str, onnx_type: str) -> DType:
    """Raises UNIMPLEMENTED for a type that no client could send or get, such as ``seq(map(int64,tensor(float)))``."""
    try:
        return _DTYPE_OF[onnx_type]
    except KeyError:
        raise ServingError(
            Code.UNIMPLEMENTED, f"{name} is of type {onnx_type}; expected one of {', '.join(_DTYPE_OF)}"
        ) from None


def to_onnx(name: str, array: Array) -> Array:
    """What a session takes. Strings are text there. Raises INVALID_ARGUMENT for bytes that are none."""
    if array.dtype != object:
        return array
    try:
        texts = [item.decode() for item in array.flat]
    except UnicodeDecodeError as error:
        raise invalid_argument(f"input {name} must be text in UTF-8, as all strings of ONNX are: {error}") from None
    made = np.empty(array.shape, object)
    made.reshape(-1)[:] = texts
    return made


def from_onnx(result: object) -> Array:
    """The array for what a session gave."""
    array = np.asarray(result)
    if array.dtype != object:
        return array
    made = np.empty(array.shape, object)
    made.reshape(-1)[:] = [text.encode() for text in array.flat]
    return made
