"""OpenVINO's element types.

Its CPU plug-in computes 64-bit integers and unsigned ones of 32 bits as int32, and double as float.
"""

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Array, TensorSpec

# By ``Type.get_type_name()``. What is not here (bf16, 8-bit floats, 4-bit integers, string) is not served.
_DTYPE_OF = {
    "f32": DType.FLOAT,
    "f64": DType.DOUBLE,
    "f16": DType.HALF,
    "i8": DType.INT8,
    "i16": DType.INT16,
    "i32": DType.INT32,
    "i64": DType.INT64,
    "u8": DType.UINT8,
    "u16": DType.UINT16,
    "u32": DType.UINT32,
    "u64": DType.UINT64,
    "boolean": DType.BOOL,
}
NARROWED = frozenset({DType.INT64, DType.UINT32, DType.UINT64})
"""Computed in 32 bits, with a sign."""
_INT32 = np.iinfo(np.int32)
_INT64 = np.iinfo(np.int64)


def dtype_of(name: str, type_name: str) -> DType:
    """Raises UNIMPLEMENTED for a type that is not served."""
    try:
        return _DTYPE_OF[type_name]
    except KeyError:
        raise ServingError(
            Code.UNIMPLEMENTED, f"{name} is of OpenVINO's type {type_name}; expected one of {', '.join(_DTYPE_OF)}"
        ) from None


def check_range(spec: TensorSpec, array: Array) -> None:
    """Raises INVALID_ARGUMENT for integers that OpenVINO would cut to 32 bits, and compute something else from."""
    if spec.dtype in NARROWED and array.size and (array.max() > _INT32.max or array.min() < _INT32.min):
        raise invalid_argument(
            f"input {spec.name} must be within {_INT32.min} and {_INT32.max}, for OpenVINO computes {spec.dtype.text} "
            f"in 32 bits; got {array.min()} to {array.max()}"
        )


def too_wide(constant: Array) -> int | None:
    """An integer in the constant that 32 bits do not hold, if any.

    The largest and smallest of 64 bits do not count: they stand for "to the end" where a tensor is sliced.
    """
    if constant.dtype not in (np.int64, np.uint64, np.uint32):
        return None
    wide = constant[(constant > _INT32.max) | (constant < _INT32.min)]
    wide = wide[(wide != _INT64.max) & (wide != _INT64.min)]
    return int(wide[0]) if wide.size else None
