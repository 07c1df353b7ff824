"""LiteRT's element types, and the arrays that its interpreter takes and gives.

Numbers are those of ``TensorType`` in TensorFlow Lite's schema.fbs. A type that is not here (resource, variant,
2-bit integers) cannot be passed to the interpreter from Python.
"""

import numpy as np

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array

_DTYPE_OF = {
    0: DType.FLOAT,
    1: DType.HALF,
    2: DType.INT32,
    3: DType.UINT8,
    4: DType.INT64,
    5: DType.STRING,
    6: DType.BOOL,
    7: DType.INT16,
    8: DType.COMPLEX64,
    9: DType.INT8,
    10: DType.DOUBLE,
    11: DType.COMPLEX128,
    12: DType.UINT64,
    15: DType.UINT32,
    16: DType.UINT16,
    17: DType.INT4,
    18: DType.BFLOAT16,
    20: DType.UINT4,
    21: DType.FLOAT8_E4M3FN,
    22: DType.FLOAT8_E5M2,
}

# The interpreter packs 4-bit integers itself, out of whole bytes.
_WIDENED = {DType.INT4: np.dtype(np.int8), DType.UINT4: np.dtype(np.uint8)}
# It knows no numpy type for these, and takes their bytes for integers.
_AS_BYTES = frozenset({DType.FLOAT8_E4M3FN, DType.FLOAT8_E5M2})


def dtype_of(tensor_type: int, tensor_name: str) -> DType:
    """Raises UNIMPLEMENTED for a type that no client could send or get."""
    try:
        return _DTYPE_OF[tensor_type]
    except KeyError:
        raise ServingError(
            Code.UNIMPLEMENTED, f"tensor {tensor_name} has element type {tensor_type}, which cannot be fed or fetched"
        ) from None


def to_litert(dtype: DType, array: Array) -> Array:
    """What ``SetTensor`` takes for an array of the numpy type of ``dtype``."""
    if dtype is DType.STRING and array.ndim == 0:
        # Of a scalar of objects it would take the pointer for the string.
        text: bytes = array.item()
        return np.ndarray((), np.dtype(f"S{len(text)}"), text)
    if dtype in _WIDENED:
        return array.astype(_WIDENED[dtype])
    return array.view(np.int8) if dtype in _AS_BYTES else array


def from_litert(dtype: DType, result: object) -> Array:
    """The array for what ``GetTensor`` gave, which for a scalar may be no array."""
    array = np.asarray(result)
    if dtype in _WIDENED:
        return array.astype(NUMPY_OF[dtype])
    return array.view(NUMPY_OF[dtype]) if dtype in _AS_BYTES else array
