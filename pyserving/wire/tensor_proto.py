"""``tensorflow.TensorProto`` to and from numpy arrays.

Values lie either in ``tensor_content`` (little-endian bytes, as in memory; strings: all lengths as varints,
then all bytes) or in the ``*_val`` field of the dtype. A ``*_val`` list shorter than the shape stands for its
last value repeated; an empty one for zeros (``Tensor::FromProto`` of TensorFlow).
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.protos.messages import TensorProto

MAX_REPEATED_BYTES = 256 << 20
"""How large a tensor may grow that a message only describes (a shape and a value to repeat)."""

# dtype -> (field of TensorProto, numpy dtype of its elements)
_FIELDS: dict[DType, tuple[str, type[Any]]] = {
    DType.FLOAT: ("float_val", np.float32),
    DType.DOUBLE: ("double_val", np.float64),
    DType.INT32: ("int_val", np.int32),
    DType.UINT8: ("int_val", np.int32),
    DType.INT16: ("int_val", np.int32),
    DType.INT8: ("int_val", np.int32),
    DType.UINT16: ("int_val", np.int32),
    DType.QINT8: ("int_val", np.int32),
    DType.QUINT8: ("int_val", np.int32),
    DType.QINT16: ("int_val", np.int32),
    DType.QUINT16: ("int_val", np.int32),
    DType.QINT32: ("int_val", np.int32),
    DType.INT4: ("int_val", np.int32),
    DType.UINT4: ("int_val", np.int32),
    DType.INT64: ("int64_val", np.int64),
    DType.UINT32: ("uint32_val", np.uint32),
    DType.UINT64: ("uint64_val", np.uint64),
    DType.BOOL: ("bool_val", np.bool_),
    DType.HALF: ("half_val", np.int32),
    DType.BFLOAT16: ("half_val", np.int32),
    DType.COMPLEX64: ("scomplex_val", np.float32),
    DType.COMPLEX128: ("dcomplex_val", np.float64),
}
_KNOWN = {int(dtype): (dtype, numpy_dtype) for dtype, numpy_dtype in NUMPY_OF.items()}
_MANY = 256
_VIEWED_BYTES = 64 << 10
FLOAT8 = (
    DType.FLOAT8_E5M2,
    DType.FLOAT8_E4M3FN,
    DType.FLOAT8_E4M3FNUZ,
    DType.FLOAT8_E4M3B11FNUZ,
    DType.FLOAT8_E5M2FNUZ,
)


class LiftedValues(NamedTuple):
    """Values that were taken out of a message before it was parsed."""

    field: str
    """``tensor_content`` (of no strings), ``float_val`` or ``double_val`` (of that dtype), or ``string_val``."""
    raw: memoryview
    """As they lie on the wire; empty for strings."""
    strings: Sequence[bytes] = ()


def read_tensor(proto: TensorProto, name: str, lifted: LiftedValues | None = None) -> Array:
    """The array that ``proto`` describes: C-contiguous, strings as an object array of bytes.

    ``name`` is the input's alias, for the error text. With ``lifted``, the message has no values.
    Raises INVALID_ARGUMENT where the message does not describe a tensor, RESOURCE_EXHAUSTED where it describes one far
    larger than itself.
    """
    known = _KNOWN.get(proto.dtype)
    if known is None:
        if proto.dtype == DType.RESOURCE:
            raise invalid_argument(f"Invalid resource type hash code: input {name} cannot be fed a resource handle")
        raise _malformed(name, f"dtype {proto.dtype} cannot be fed")
    dtype, numpy_dtype = known
    shape = _shape(proto, name)
    count = prod(shape)
    if lifted is not None and lifted.field == "string_val":
        return _string_array(lifted.strings, shape, count, name)
    if dtype == DType.STRING:
        packed = proto.tensor_content
        values = _split_strings(packed, count, name) if packed else list(proto.string_val)
        return _string_array(values, shape, count, name)
    content = lifted.raw if lifted is not None and lifted.field == "tensor_content" else proto.tensor_content
    if content:
        if len(content) != count * numpy_dtype.itemsize:
            raise _malformed(
                name,
                f"{len(content)} bytes of tensor_content for {count} elements of {dtype.text}, "
                f"{numpy_dtype.itemsize} bytes each",
            )
        return np.frombuffer(content, numpy_dtype).reshape(shape)
    if dtype in FLOAT8:
        flat = np.frombuffer(proto.float8_val, np.uint8)
        return _repeat_last(flat, count, name).view(numpy_dtype).reshape(shape)
    field, element = _FIELDS[dtype]
    wire = np.frombuffer(lifted.raw, element) if lifted is not None else _values(getattr(proto, field), field, element)
    if wire.dtype == numpy_dtype:
        return (wire if len(wire) == count else _repeat_last(wire, count, name)).reshape(shape)
    if dtype in (DType.COMPLEX64, DType.COMPLEX128):
        if len(wire) % 2:
            raise _malformed(name, f"an odd number of values ({len(wire)}) in {field}")
        flat = wire.view(numpy_dtype)
    elif dtype in (DType.HALF, DType.BFLOAT16):
        _check_range(wire, np.uint16, dtype, name)
        flat = wire.astype(np.uint16).view(numpy_dtype)
    else:
        flat = _narrowed(wire, numpy_dtype, dtype, name)
    return _repeat_last(flat, count, name).reshape(shape)


def _values(values: Sequence[Any], field: str, element: type[Any]) -> Array:
    """The values of a ``*_val`` field."""
    if len(values) < _MANY or element not in (np.float32, np.float64):
        return np.fromiter(values, element, len(values))
    # On the wire a packed float field is the array's memory: writing it anew costs a copy, not a step per element.
    alone = TensorProto()
    getattr(alone, field).MergeFrom(values)
    packed = alone.SerializeToString()
    return np.frombuffer(packed, element, len(values), len(packed) - len(values) * np.dtype(element).itemsize)


def _shape(proto: TensorProto, name: str) -> tuple[int, ...]:
    if proto.tensor_shape.unknown_rank:
        raise _malformed(name, "its shape has no rank")
    shape = tuple([dim.size for dim in proto.tensor_shape.dim])
    if shape and min(shape) < 0:
        raise _malformed(name, f"a negative size in its shape {list(shape)}")
    if prod([size or 1 for size in shape]) >= 1 << 62:
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"input {name}: no memory holds a tensor of shape {list(shape)}")
    if len(shape) > 64:  # what numpy can hold; TensorFlow's own limit is 254
        raise _malformed(name, f"{len(shape)} dimensions, of which 64 are possible")
    return shape


def _narrowed(wire: Array, numpy_dtype: np.dtype[Any], dtype: DType, name: str) -> Array:
    """Values of int_val as a narrower type. The real server lets them wrap; we refuse what does not fit."""
    if numpy_dtype.names:  # a quantised type: a structure of one integer
        plain = numpy_dtype[0]
        _check_range(wire, plain, dtype, name)
        return wire.astype(plain).view(numpy_dtype)
    if dtype in (DType.INT4, DType.UINT4):
        low, high = (-8, 7) if dtype == DType.INT4 else (0, 15)
        if wire.size and (wire.min() < low or wire.max() > high):
            raise _out_of_range(wire, low, high, dtype, name)
    else:
        _check_range(wire, numpy_dtype, dtype, name)
    return wire.astype(numpy_dtype)


def _check_range(wire: Array, target: Any, dtype: DType, name: str) -> None:
    limits = np.iinfo(target)
    if wire.size and (wire.min() < limits.min or wire.max() > limits.max):
        raise _out_of_range(wire, int(limits.min), int(limits.max), dtype, name)


def _out_of_range(wire: Array, low: int, high: int, dtype: DType, name: str) -> ServingError:
    worst = next(int(v) for v in wire if not low <= v <= high)
    return invalid_argument(f"input {name}: value {worst} is out of range for {dtype.text} ({low} to {high})")


def _repeat_last(flat: Array, count: int, name: str) -> Array:
    if len(flat) >= count:
        return flat[:count]
    _check_growth(count * flat.dtype.itemsize, name)
    full = np.zeros(count, flat.dtype)
    if len(flat):
        full[: len(flat)] = flat
        full[len(flat) :] = flat[-1]
    return full


def _string_array(values: Sequence[bytes], shape: tuple[int, ...], count: int, name: str) -> Array:
    if len(values) >= count:
        array = np.empty(count, object)
        array[:] = values[:count]
    else:
        _check_growth(count * 64, name)  # about what an object and its TF_TString take
        array = np.empty(count, object)
        array[: len(values)] = values
        array[len(values) :] = values[-1] if values else b""
    return array.reshape(shape)


def _split_strings(content: bytes, count: int, name: str) -> list[bytes]:
    if count > len(content):
        raise _malformed(name, f"{len(content)} bytes of tensor_content cannot hold {count} strings")
    lengths = []
    position = 0
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise _malformed(name, "the string lengths in tensor_content are cut off")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise _malformed(name, f"string lengths add up to {sum(lengths)}, {len(content) - position} bytes follow")
    values = []
    for length in lengths:
        values.append(content[position : position + length])
        position += length
    return values


def _check_growth(size: int, name: str) -> None:
    if size > MAX_REPEATED_BYTES:
        raise ServingError(
            Code.RESOURCE_EXHAUSTED,
            f"input {name}: its shape needs {size} bytes, more than the {MAX_REPEATED_BYTES} that repeating a value "
            "may make; send the values in full",
        )


def _malformed(name: str, why: str) -> ServingError:
    return invalid_argument(f"tensor parsing error: {name} ({why})")


def write_tensor(array: Array, *, as_content: bool = False) -> bytes:
    """``array`` as a serialized TensorProto, its values in the ``*_val`` field, or in ``tensor_content``."""
    return b"".join(tensor_parts(array, as_content=as_content))


def tensor_parts(array: Array, *, as_content: bool = False) -> tuple[bytes, bytes | memoryview]:
    """What ``write_tensor`` gives, in two parts: the second is the values, where they are written as in memory.

    The message is put together by hand: a packed float field is the array's own bytes, so that nothing is
    copied element by element. Integers, which are varints on the wire, are left to protobuf.
    """
    dtype = DTYPE_OF[array.dtype]
    head = b"\x08" + varint(dtype) + _shape_field(array.shape)
    if not array.size:
        return head, b""
    if as_content:
        content = _join_strings(array) if dtype == DType.STRING else memory_of(array)
        return head + b"\x22" + varint(len(content)), content
    raw_field = _RAW_FIELDS.get(dtype)
    if raw_field is not None:
        return head + raw_field + varint(array.nbytes), memory_of(array)
    return head, _value_field(array, dtype).SerializeToString()


def memory_of(array: Array) -> bytes | memoryview:
    """The array's values as they lie in memory; a view where there are many."""
    if array.nbytes < _VIEWED_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def is_raw(dtype: np.dtype, *, as_content: bool) -> bool:
    """Whether ``write_tensor`` ends the message with the array's own bytes, wherever there are values."""
    known = DTYPE_OF[dtype]
    return known in _RAW_FIELDS or (as_content and known != DType.STRING)


# Packed fields whose wire form is the array's memory (little-endian machines, as all that TensorFlow runs on).
_RAW_FIELDS = {
    DType.FLOAT: b"\x2a",  # float_val = 5
    DType.DOUBLE: b"\x32",  # double_val = 6
    DType.COMPLEX64: b"\x4a",  # scomplex_val = 9
    DType.BOOL: b"\x5a",  # bool_val = 11
    DType.COMPLEX128: b"\x62",  # dcomplex_val = 12
} | dict.fromkeys(FLOAT8, b"\x92\x01")  # float8_val = 18


def _value_field(array: Array, dtype: DType) -> TensorProto:
    proto = TensorProto()
    if dtype == DType.STRING:
        proto.string_val.extend(array.ravel().tolist())
    elif dtype in (DType.HALF, DType.BFLOAT16):
        proto.half_val.extend(array.view(np.uint16).ravel().tolist())
    else:
        plain = array.view(array.dtype[0]) if array.dtype.names else array
        field: Callable[[Sequence[int]], None] = getattr(proto, _FIELDS[dtype][0]).extend
        field(plain.ravel().astype(np.int64).tolist() if dtype in (DType.INT4, DType.UINT4) else plain.ravel().tolist())
    return proto


_dim_cache: dict[tuple[int, ...], bytes] = {}


def _shape_field(shape: tuple[int, ...]) -> bytes:
    """``tensor_shape`` (field 2), always present, as the real server writes it for a scalar too."""
    cached = _dim_cache.get(shape)
    if cached is None:
        dims = b""
        for size in shape:
            dim = b"\x08" + varint(size) if size else b""
            dims += b"\x12" + varint(len(dim)) + dim
        cached = b"\x12" + varint(len(dims)) + dims
        if len(_dim_cache) < 4096:
            _dim_cache[shape] = cached
    return cached


def _join_strings(array: Array) -> bytes:
    values = array.ravel().tolist()
    return b"".join([varint(len(value)) for value in values] + values)


def varint(value: int) -> bytes:
    """A non-negative integer in protobuf's base-128 form."""
    if value < 0x80:
        return _BYTES[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_BYTES = [bytes([i]) for i in range(0x80)]
