"""Tensor element types: TensorFlow's numbers and names, and the numpy dtypes that carry them.

Numbers are those of ``tensorflow.DataType``; names those of TensorFlow's ``DataTypeString``.
"""

from enum import IntEnum

import ml_dtypes
import numpy as np


class DType(IntEnum):
    """The element types that a tensor on the wire can have."""

    INVALID = 0
    FLOAT = 1
    DOUBLE = 2
    INT32 = 3
    UINT8 = 4
    INT16 = 5
    INT8 = 6
    STRING = 7
    COMPLEX64 = 8
    INT64 = 9
    BOOL = 10
    QINT8 = 11
    QUINT8 = 12
    QINT32 = 13
    BFLOAT16 = 14
    QINT16 = 15
    QUINT16 = 16
    UINT16 = 17
    COMPLEX128 = 18
    HALF = 19
    RESOURCE = 20
    VARIANT = 21
    UINT32 = 22
    UINT64 = 23
    FLOAT8_E5M2 = 24
    FLOAT8_E4M3FN = 25
    FLOAT8_E4M3FNUZ = 26
    FLOAT8_E4M3B11FNUZ = 27
    FLOAT8_E5M2FNUZ = 28
    INT4 = 29
    UINT4 = 30
    INT2 = 31
    UINT2 = 32
    FLOAT4_E2M1FN = 33

    @property
    def text(self) -> str:
        """The name that TensorFlow's error texts use, such as ``float`` or ``int32``."""
        return _TEXT.get(self, self.name.lower())


_TEXT = {DType.INVALID: "INVALID"}

# Strings travel as object arrays of bytes. Quantised types are structured, as TensorFlow's own numpy
# types are, so that they stay distinct from the plain integers of the same width.
NUMPY_OF: dict[DType, np.dtype] = {
    DType.FLOAT: np.dtype(np.float32),
    DType.DOUBLE: np.dtype(np.float64),
    DType.INT32: np.dtype(np.int32),
    DType.UINT8: np.dtype(np.uint8),
    DType.INT16: np.dtype(np.int16),
    DType.INT8: np.dtype(np.int8),
    DType.STRING: np.dtype(object),
    DType.COMPLEX64: np.dtype(np.complex64),
    DType.INT64: np.dtype(np.int64),
    DType.BOOL: np.dtype(np.bool_),
    DType.QINT8: np.dtype([("qint8", np.int8)]),
    DType.QUINT8: np.dtype([("quint8", np.uint8)]),
    DType.QINT32: np.dtype([("qint32", np.int32)]),
    DType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DType.QINT16: np.dtype([("qint16", np.int16)]),
    DType.QUINT16: np.dtype([("quint16", np.uint16)]),
    DType.UINT16: np.dtype(np.uint16),
    DType.COMPLEX128: np.dtype(np.complex128),
    DType.HALF: np.dtype(np.float16),
    DType.UINT32: np.dtype(np.uint32),
    DType.UINT64: np.dtype(np.uint64),
    DType.FLOAT8_E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DType.FLOAT8_E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DType.FLOAT8_E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DType.FLOAT8_E4M3B11FNUZ: np.dtype(ml_dtypes.float8_e4m3b11fnuz),
    DType.FLOAT8_E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DType.INT4: np.dtype(ml_dtypes.int4),
    DType.UINT4: np.dtype(ml_dtypes.uint4),
}

DTYPE_OF: dict[np.dtype, DType] = {numpy_dtype: dtype for dtype, numpy_dtype in NUMPY_OF.items()}
