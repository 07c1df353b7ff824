"""Long lists of numbers at simdjson's speed: the text of one array to a numpy array.

The text is read in pieces, each cut at a comma and made a document of its own by the brackets that are open there. So
simdjson's memory (some 15 bytes for each of the text) stays small, and the GIL, which simdjson never drops, is held
for less than a millisecond at a time.

That the pieces are right proves that the whole is: whether a token may follow another one is seen within a piece, for
at a comma a value has ended and another one, or a list, has to begin; how lists nest is proved on the brackets and
commas of the whole text. What a piece cannot show is a value that is missing beside a cut, and the count tells that.
"""

from collections import deque
from collections.abc import Sequence
from math import prod
from mmap import mmap
from typing import Literal

import numpy as np
from simdjson import Array as SimdArray
from simdjson import Parser

from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.wire.breath import breathe
from pyserving.wire.byte_buffer import ByteBuffer
from pyserving.wire.json_tensors import MAX_RANK, NotPlainError, flush_denormals

# simdjson's element type, and numpy's for it.
_WIDE: dict[DType, tuple[Literal["d", "i", "u"], type[np.generic]]] = {
    DType.FLOAT: ("d", np.float64),
    DType.DOUBLE: ("d", np.float64),
    DType.INT8: ("i", np.int64),
    DType.INT16: ("i", np.int64),
    DType.INT32: ("i", np.int64),
    DType.INT64: ("i", np.int64),
    DType.UINT8: ("i", np.int64),
    DType.UINT32: ("i", np.int64),
    DType.UINT64: ("u", np.uint64),
}

_PIECE = 256 << 10
"""Bytes of text read at a time: half a millisecond's work, and simdjson's tables stay in the cache."""

_SHORT = 4 << 10
"""Bytes that are compared with less ado without numpy."""

_OWN_MEMORY = 16 << 20

_LONGEST_END = 256
"""Bytes before a cut that are looked at for the brackets that close there."""

_NOT_STRUCTURE = b"0123456789.-+eE \t\r\n"

# A spare parser, as its memory is dear to come by.
_spare_parsers: deque[Parser] = deque(maxlen=1)


class NumberArray:
    """The text of a JSON array, which may turn out to be one of numbers: ``text[start:end]``."""

    __slots__ = ("_end", "_start", "_text", "shape")

    def __init__(self, text: bytes, start: int, end: int) -> None:
        """Raises NotPlainError where the lists of a level are not equally long, or nested too deep."""
        self._text = text
        self._start = start
        self._end = end
        self.shape = find_shape(_structure(text, start, end))
        """As the brackets and commas have it: an empty list counts as one of one value, until it is read."""

    def to_array(self, dtype: DType) -> Array:
        """Raises NotPlainError unless the text is an array of numbers of ``dtype``."""
        array: Array = stack_arrays([self], dtype)[0]
        return array


def stack_arrays(arrays: Sequence[NumberArray], dtype: DType) -> Array:
    """One array of ``dtype`` with each of ``arrays`` as a row.

    Raises NotPlainError unless all are arrays of numbers of ``dtype`` and of one shape.
    """
    shape = arrays[0].shape
    if dtype not in _WIDE or len(shape) >= MAX_RANK or any(array.shape != shape for array in arrays):
        raise NotPlainError
    stacked = _new_array((len(arrays), *shape), NUMPY_OF[dtype])
    try:
        parser = _spare_parsers.pop()
    except IndexError:
        parser = Parser()
    for array, row in zip(arrays, stacked, strict=True):
        _read(parser, array, row.reshape(-1), dtype)
    _spare_parsers.append(parser)
    return stacked


def _new_array(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """A very large one lies in memory of its own: in the heap, between a body that is to go and a copy that the engine
    is to make, it would leave a gap just too small for the copy."""
    size = prod(shape) * dtype.itemsize
    if size < _OWN_MEMORY:
        return np.empty(shape, dtype)
    return np.frombuffer(mmap(-1, size), dtype).reshape(shape)


def _read(parser: Parser, array: NumberArray, out: Array, dtype: DType) -> None:
    """Fills ``out``, which is flat. Raises NotPlainError."""
    text, at, end = array._text, array._start, array._end
    code, wide_type = _WIDE[dtype]
    rank = len(array.shape)
    view = memoryview(text)
    filled = 0
    depth = 0
    while at < end:
        if end - at <= _PIECE:
            cut, depth_after = end, 0
        else:
            cut = text.rfind(b",", at, at + _PIECE)
            if cut < 0:
                raise NotPlainError
            closed = text[max(at, cut - _LONGEST_END) : cut].translate(None, _NOT_STRUCTURE)
            depth_after = rank - (len(closed) - len(closed.rstrip(b"]")))
        piece = text if cut - at == len(text) else b"".join((b"[" * depth, view[at:cut], b"]" * depth_after))
        wide = _flat_numbers(parser, piece, code, wide_type)
        if filled + wide.size > out.size:
            raise NotPlainError
        _narrow(wide, out[filled : filled + wide.size], dtype)
        filled += wide.size
        depth = depth_after
        at = cut + 1
        if at < end:
            breathe()
    if filled != out.size:
        raise NotPlainError


def _flat_numbers(parser: Parser, text: bytes, code: Literal["d", "i", "u"], wide_type: type[np.generic]) -> Array:
    try:
        values = parser.parse(text)
        if not isinstance(values, SimdArray):
            raise NotPlainError
        return np.frombuffer(values.as_buffer(of_type=code), wide_type)
    except (TypeError, ValueError, RuntimeError):
        raise NotPlainError from None


def _narrow(wide: Array, out: Array, dtype: DType) -> None:
    target = out.dtype
    if target.kind == "f":
        with np.errstate(over="ignore"):
            out[...] = wide
        flush_denormals(out, dtype)
        return
    if wide.size and wide.dtype != target:
        limits = np.iinfo(target)
        if wide.min() < limits.min or wide.max() > limits.max:
            raise NotPlainError
    out[...] = wide


def _structure(text: bytes, start: int, end: int) -> bytes:
    """The brackets and commas of ``text[start:end]``.

    Whatever stands where a number should may be left out as well: reading the numbers refuses it.
    """
    characters = np.frombuffer(text, np.uint8)
    buffer = ByteBuffer()
    for at in range(start, end, _PIECE):
        piece = characters[at : min(at + _PIECE, end)]
        # Of what numbers are made of, only the e lies above the brackets, and nothing at the comma.
        found = piece == ord(",")
        found |= piece >= ord("[")
        part = piece.take(np.flatnonzero(found)).tobytes()
        buffer.write(part.replace(b"e", b"") if b"e" in part else part)
        if at + _PIECE < end:
            breathe()
    return buffer.take()


def find_shape(structure: bytes) -> tuple[int, ...]:
    """The shape of an array of which only brackets and commas are left. Raises NotPlainError where it is ragged.

    Level by level, from the innermost one: the first list of a level must be the first list of the level below it,
    repeated with commas between, so it must be equal to itself moved on by one repetition. The whole is the first
    list of the last level. A list without a comma counts as one value long, so one of none is for the caller to find.
    """
    rank = len(structure) - len(structure.lstrip(b"["))
    if not 0 < rank <= MAX_RANK:
        raise NotPlainError
    shape: list[int] = []
    end = 0
    step = 1  # length of the first list of the level below, and a comma
    for start in range(rank - 1, -1, -1):
        # Of this level's first list: what stands behind each value of it. All are commas but the last.
        if step == 1:
            size = structure.find(b"]", start) - start
        else:
            behind = structure[start + step :: step]
            size = len(behind) - len(behind.lstrip(b",")) + 1
        end = start + size * step + 1
        if structure[end - 1 : end] != b"]" or not _repeats(structure, start + 1, end - 1, step):
            raise NotPlainError
        shape.append(size)
        step = end - start + 1
    if end != len(structure):
        raise NotPlainError
    return tuple(reversed(shape))


def _repeats(structure: bytes, start: int, end: int, step: int) -> bool:
    """Whether every character of ``structure[start:end]`` comes again ``step`` later."""
    if end - start <= _SHORT:
        return structure[start + step : end] == structure[start : max(start, end - step)]
    characters = np.frombuffer(structure, np.uint8)
    for at in range(start, end - step, _PIECE):
        stop = min(at + _PIECE, end - step)
        if not np.array_equal(characters[at:stop], characters[at + step : stop + step]):
            return False
        breathe()
    return True
