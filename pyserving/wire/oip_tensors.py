"""Tensors of the Open Inference Protocol: their datatypes, and their values as raw bytes.

Raw bytes are the values in row-major order, little-endian, as they lie in memory; a BOOL takes a byte. Each element of
a BYTES tensor is its length, as an unsigned number of four bytes, and then so many bytes (kserve.github.io, "Open
Inference Protocol", and the binary tensor data extension of the Triton Inference Server).
"""

import struct
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.wire.tensor_proto import memory_of

DATATYPES: dict[DType, str] = {
    DType.BOOL: "BOOL",
    DType.UINT8: "UINT8",
    DType.UINT16: "UINT16",
    DType.UINT32: "UINT32",
    DType.UINT64: "UINT64",
    DType.INT8: "INT8",
    DType.INT16: "INT16",
    DType.INT32: "INT32",
    DType.INT64: "INT64",
    DType.HALF: "FP16",
    DType.FLOAT: "FP32",
    DType.DOUBLE: "FP64",
    DType.BFLOAT16: "BF16",
    DType.STRING: "BYTES",
}
"""The protocol's names. Complex, quantised and other small numbers have none."""

_DTYPES = {name: dtype for dtype, name in DATATYPES.items()}
_MAX_RANK = 32
"""What every supported numpy can hold."""
_LENGTH = struct.Struct("<I")

Parameter = bool | int | float | str
"""A value that a request may carry besides its tensors."""


class TensorHead(NamedTuple):
    """What is said of a tensor besides its values."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements there are."""
        return prod(self.shape)


def datatype_text(dtype: DType) -> str:
    """The protocol's name, and for dtypes without one TensorFlow's, such as ``complex64``."""
    return DATATYPES.get(dtype) or dtype.text


def tensor_head(name: str, datatype: str, shape: Sequence[int]) -> TensorHead:
    """Of an input as the client describes it. Raises INVALID_ARGUMENT; RESOURCE_EXHAUSTED for a shape beyond memory."""
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise invalid_argument(f"input {name}: expected a datatype out of {', '.join(_DTYPES)}; got {datatype!r}")
    if len(shape) > _MAX_RANK:
        raise invalid_argument(f"input {name}: expected at most {_MAX_RANK} dimensions, got {len(shape)}")
    if shape and min(shape) < 0:
        raise invalid_argument(f"input {name}: expected no negative size in its shape, got {list(shape)}")
    if prod([size or 1 for size in shape]) >= 1 << 59:  # with eight bytes each, numpy could not count them
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"input {name}: no memory holds a tensor of shape {list(shape)}")
    return TensorHead(name, dtype, tuple(shape))


def read_raw(head: TensorHead, raw: bytes | memoryview) -> Array:
    """The tensor whose values are ``raw``: a view of it, but for strings and BOOL. Raises INVALID_ARGUMENT."""
    if head.dtype == DType.STRING:
        return string_array(head, _split_strings(head, bytes(raw)))
    numpy_dtype = NUMPY_OF[head.dtype]
    expected = head.size * numpy_dtype.itemsize
    if len(raw) != expected:
        raise invalid_argument(
            f"input {head.name}: expected {expected} bytes for {DATATYPES[head.dtype]} of shape {list(head.shape)}, "
            f"got {len(raw)}"
        )
    if head.dtype == DType.BOOL:  # engines reckon with bytes of 0 and 1, and nobody says that others do not come
        return np.not_equal(np.frombuffer(raw, np.uint8), 0).reshape(head.shape)
    return np.frombuffer(raw, numpy_dtype).reshape(head.shape)


def string_array(head: TensorHead, values: Sequence[bytes]) -> Array:
    """``values``, as many as ``head`` says, as an object array."""
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(head.shape)


def _split_strings(head: TensorHead, raw: bytes) -> list[bytes]:
    values: list[bytes] = []
    at, end, count = 0, len(raw), head.size
    while at < end and len(values) < count:
        start = at + _LENGTH.size
        if start > end:
            raise invalid_argument(
                f"input {head.name}: expected a length of 4 bytes before string {len(values)}, got {end - at}"
            )
        (length,) = _LENGTH.unpack_from(raw, at)
        at = start + length
        if at > end:
            raise invalid_argument(
                f"input {head.name}: expected {length} bytes of string {len(values)}, got {end - start}"
            )
        values.append(raw[start:at])
    if len(values) != count or at != end:
        left = f" and {end - at} bytes more" if at < end else ""
        raise invalid_argument(
            f"input {head.name}: expected {count} strings for BYTES of shape {list(head.shape)}, "
            f"got {len(values)}{left}"
        )
    return values


def output_datatype(name: str, array: Array) -> str:
    """The datatype of an output. Raises UNIMPLEMENTED where the protocol has none for it."""
    dtype = DTYPE_OF[array.dtype]
    datatype = DATATYPES.get(dtype)
    if datatype is None:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"output {name} is of dtype {dtype.text}, which the Open Inference Protocol cannot carry",
        )
    return datatype


def write_raw(array: Array) -> bytes | memoryview:
    """The values of a tensor; a view where there are many."""
    if array.dtype != object:
        return memory_of(array)
    parts: list[bytes] = []
    for value in array.ravel().tolist():
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)
