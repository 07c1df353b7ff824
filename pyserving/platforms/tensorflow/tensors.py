"""Arrays to and from ``TF_Tensor``.

What is fed is copied into memory of TensorFlow's own: variables and identity outputs go on using it after the
run, so it must not be the caller's. What comes out may for the same reason be the memory of a variable: it is
copied where it is small or could be written to, else shared, read-only.
"""

import ctypes
import struct
from itertools import accumulate
from typing import Any

import numpy as np

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.platforms.tensorflow.library import Buffer, TensorFlow
from pyserving.platforms.tensorflow.status import Status

COPIED_BYTES = 1 << 16
"""Up to this size copying takes less time than it takes to set up an array on foreign memory."""

MAX_STRING_BYTES = (1 << 30) - 1
"""Length of one string, and (four times that) reach of an offset, in a TF_TString of the offset kind."""

_MAX_DIMS = 64  # numpy's limit; TensorFlow's is 254
_SHAPES = [ctypes.c_int64 * ndim for ndim in range(_MAX_DIMS + 1)]

# TF_TString is a union of 24 bytes; the low two bits of the first byte tell which:
#   small  (0): uint8 size << 2, then the bytes
#   large  (1): uint64 size << 2 | 1, uint64 capacity, pointer
#   offset (2): uint32 size << 2 | 2, uint32 distance of the bytes from this struct
#   view   (3): uint64 size << 2 | 3, pointer
_TSTRING = struct.Struct("<QQQ")
_SMALL, _LARGE, _OFFSET = 0, 1, 2

_bytes_at = ctypes.pythonapi["PyBytes_FromStringAndSize"]  # ctypes.string_at goes a longer way round
_bytes_at.restype, _bytes_at.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t)
_string_dtype = NUMPY_OF[DType.STRING]


def new_tensor(tf: TensorFlow, array: Array) -> int:
    """A ``TF_Tensor`` with a copy of the array's values, to be deleted by the caller.

    Raises INVALID_ARGUMENT for an array that TensorFlow has no element type for.
    """
    dtype = DTYPE_OF.get(array.dtype)
    if dtype is None:
        raise invalid_argument(f"an array of {array.dtype} cannot be fed: TensorFlow has no such element type")
    if dtype is DType.STRING:
        return _new_string_tensor(tf, array)
    size = array.nbytes
    tensor = _allocate(tf, dtype, array.shape, size)
    if size > COPIED_BYTES:
        # numpy drops the GIL while it copies this much.
        np.copyto(_view(tf.tensor_data(tensor), size).view(array.dtype).reshape(array.shape), array)
    elif size:
        tf.move_bytes(tf.tensor_data(tensor), array.tobytes(), size)
    return tensor


def _new_string_tensor(tf: TensorFlow, array: Array) -> int:
    """All in one block, first the structs, then the bytes: nothing is left to be freed one by one."""
    strings: list[bytes] = array.ravel().tolist()
    if not all(issubclass(kind, bytes) for kind in set(map(type, strings))):
        raise invalid_argument("an array of objects that are not all bytes cannot be fed as strings")
    sizes = list(map(len, strings))
    count = len(sizes)
    length = sum(sizes) + count  # a zero byte after each, as some kernels expect of a C string
    if max(sizes, default=0) > MAX_STRING_BYTES or length > 4 * MAX_STRING_BYTES - _TSTRING.size * count:
        raise invalid_argument(f"a string tensor of {length} bytes cannot be fed: it is too large")
    # The n-th struct is 24 n bytes into the block, its bytes (the sizes before, and as many zeros) after the last.
    step = 1 - _TSTRING.size
    starts = accumulate((size + step for size in sizes), initial=_TSTRING.size * count)
    words = [size << 2 | _OFFSET | start << 32 for size, start in zip(sizes, starts, strict=False)]
    structs = np.zeros((count, 3), np.uint64)
    structs[:, 0] = words
    size = structs.nbytes + length
    tensor = _allocate(tf, DType.STRING, array.shape, size)
    if length <= count * COPIED_BYTES:
        block = b"".join((structs.tobytes(), b"\0".join((*strings, b""))))
        tf.move_bytes(tf.tensor_data(tensor), block, size)
        return tensor
    # Each of these is copied once, without the GIL.
    memory = _view(tf.tensor_data(tensor), size)
    at = structs.nbytes
    memory[:at] = np.frombuffer(structs, np.uint8)
    for string in strings:
        end = at + len(string)
        memory[at:end] = np.frombuffer(string, np.uint8)
        memory[end] = 0
        at = end + 1
    return tensor


def _allocate(tf: TensorFlow, dtype: DType, shape: tuple[int, ...], size: int) -> int:
    ndim = len(shape)
    tensor: int | None = tf.allocate_tensor(dtype, _SHAPES[ndim](*shape), ndim, size)
    if not tensor:
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"no memory for a {dtype.text} tensor of {size} bytes")
    return tensor


def take_tensor(tf: TensorFlow, tensor: int, *, copy: bool) -> Array:
    """The values of a ``TF_Tensor``, read-only; the tensor is no longer the caller's.

    With ``copy`` they are the array's own; without it, large ones stay where they are until the array dies.
    Raises UNIMPLEMENTED for a tensor of handles to something inside the model.
    """
    owner = None
    try:
        number = tf.tensor_type(tensor)
        dtype = _NUMPY_OF_NUMBER.get(number)
        if dtype is None:
            raise ServingError(Code.UNIMPLEMENTED, f"an output of type {_type_text(number)} cannot be sent")
        ndim = tf.num_dims(tensor)
        size = tf.tensor_byte_size(tensor)
        if dtype is _string_dtype:
            return _strings(tf, tensor, _shape(tf, tensor, ndim))
        shape = (size // dtype.itemsize,) if ndim == 1 else _shape(tf, tensor, ndim)
        if size <= COPIED_BYTES:
            return np.ndarray(shape, dtype, _bytes_at(tf.tensor_data(tensor), size) if size else b"")
        owner = _TensorMemory(tf, tensor, size)
    finally:
        if owner is None:
            tf.delete_tensor(tensor)
    values = np.asarray(owner).view(dtype).reshape(shape)
    if copy:
        values = values.copy()
        values.flags.writeable = False
    return values


def _shape(tf: TensorFlow, tensor: int, ndim: int) -> tuple[int, ...]:
    return tuple([tf.dim(tensor, index) for index in range(ndim)])


def read_tensor_proto(tf: TensorFlow, serialized: bytes) -> Array:
    """The values of a serialized ``TensorProto``, as TensorFlow reads them. Raises ServingError."""
    text = ctypes.create_string_buffer(serialized, len(serialized))
    buffer = Buffer(ctypes.addressof(text), len(serialized), None)
    tensor = _allocate(tf, DType.BOOL, (), 1)
    try:
        with Status(tf) as status:
            tf.tensor_from_proto(ctypes.addressof(buffer), tensor, status.address)
            status.check()
    except ServingError:
        tf.delete_tensor(tensor)
        raise
    shape = tuple(tf.dim(tensor, index) for index in range(tf.num_dims(tensor)))
    dtype = _NUMPY_OF_NUMBER.get(tf.tensor_type(tensor))
    if 0 in shape and dtype is not None:
        # Made from a message, such a tensor has no memory at all, and to ask for its size would end the process.
        tf.delete_tensor(tensor)
        return np.empty(shape, dtype)
    return take_tensor(tf, tensor, copy=True)


def _strings(tf: TensorFlow, tensor: int, shape: tuple[int, ...]) -> Array:
    count = 1
    for dim in shape:
        count *= dim
    start: int = tf.tensor_data(tensor)
    block = _bytes_at(start, count * _TSTRING.size) if count else b""
    values = np.empty(count, object)
    strings: list[bytes] = []
    add = strings.append
    for position, (a, b, c) in zip(range(0, len(block), _TSTRING.size), _TSTRING.iter_unpack(block), strict=True):
        kind = a & 3
        if kind == _SMALL:
            add(block[position + 1 : position + 1 + ((a & 0xFF) >> 2)])
        elif kind == _LARGE:
            add(_bytes_at(c, a >> 2))
        elif kind == _OFFSET:
            add(_bytes_at(start + position + (a >> 32), (a & 0xFFFFFFFF) >> 2))
        else:
            add(_bytes_at(b, a >> 2))
    values[:] = strings
    values.flags.writeable = False
    return values.reshape(shape)


class _TensorMemory:
    """Keeps a ``TF_Tensor`` alive while an array looks into it, then deletes it."""

    __slots__ = ("__array_interface__", "_tensor", "_tf")

    def __init__(self, tf: TensorFlow, tensor: int, size: int) -> None:
        self._tf = tf
        self._tensor = tensor
        # Read-only: the memory may be a variable's, and to write there would change the model.
        self.__array_interface__ = _interface(tf.tensor_data(tensor), size, read_only=True)

    def __del__(self) -> None:
        self._tf.delete_tensor(self._tensor)


class _Memory:
    __slots__ = ("__array_interface__",)

    def __init__(self, address: int, size: int) -> None:
        self.__array_interface__ = _interface(address, size, read_only=False)


def _view(address: int, size: int) -> Array:
    """Bytes at an address that somebody else keeps alive."""
    return np.asarray(_Memory(address, size))


def _interface(address: int, size: int, *, read_only: bool) -> dict[str, Any]:
    return {"version": 3, "data": (address, read_only), "shape": (size,), "typestr": "|u1"}


def _type_text(number: int) -> str:
    try:
        return DType(number).text
    except ValueError:
        return str(number)


_NUMPY_OF_NUMBER = {int(dtype): numpy_dtype for dtype, numpy_dtype in NUMPY_OF.items()}
