"""Long lists of numbers at simdjson's speed: the text of one array to a numpy array."""

from collections import deque
from math import prod
from typing import Literal

import numpy as np
from simdjson import Array as SimdArray
from simdjson import Parser

from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array
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

# A spare parser, as its memory (some 15 bytes for each of the text) is dear to come by. Not for the longest texts,
# whose memory would be kept for good.
_spare_parsers: deque[Parser] = deque(maxlen=1)
_LONGEST_SPARED = 8 << 20

_NOT_STRUCTURE = b"0123456789.-+eE \t\r\n"


class NumberArray:
    """The text of a JSON array, which may turn out to be one of numbers."""

    def __init__(self, text: bytes) -> None:
        """Raises NotPlainError where ``text`` is not JSON that starts and ends with brackets."""
        self._text = text
        try:
            self._parser = _spare_parsers.pop()
        except IndexError:
            self._parser = Parser()
        try:
            values = self._parser.parse(text)
        except (ValueError, RuntimeError):
            raise NotPlainError from None
        if not isinstance(values, SimdArray):
            raise NotPlainError
        self._values: SimdArray | None = values

    def to_array(self, dtype: DType) -> Array:
        """Raises NotPlainError unless the text is an array of numbers of ``dtype``, lists of a level equally long.

        Works once: the parser then serves another text.
        """
        if dtype not in _WIDE or self._values is None:
            raise NotPlainError
        code, wide_type = _WIDE[dtype]
        shape = find_shape(self._text.translate(None, _NOT_STRUCTURE))
        try:
            wide = np.frombuffer(self._values.as_buffer(of_type=code), wide_type)
        except (TypeError, ValueError, RuntimeError):
            raise NotPlainError from None
        self._values = None  # a parser with living values refuses to parse
        if len(self._text) <= _LONGEST_SPARED:
            _spare_parsers.append(self._parser)
        if wide.size != prod(shape):
            # A list without commas has one value or none: the count tells.
            raise NotPlainError
        return _narrow(wide, dtype).reshape(shape)


def _narrow(wide: Array, dtype: DType) -> Array:
    target = NUMPY_OF[dtype]
    if target.kind != "f" and wide.size and wide.dtype != target:
        limits = np.iinfo(target)
        if wide.min() < limits.min or wide.max() > limits.max:
            raise NotPlainError
    with np.errstate(over="ignore"):
        narrow = wide.astype(target)
    if target.kind == "f":
        flush_denormals(narrow, dtype)
    return narrow


def find_shape(structure: bytes) -> tuple[int, ...]:
    """The shape of an array of which only brackets and commas are left. Raises NotPlainError where it is ragged.

    The first list of each level is taken as the pattern; then the whole must be that pattern repeated, which
    comparing bytes decides. A list without a comma counts as one value long, so one of none is for the caller to find.
    """
    rank = len(structure) - len(structure.lstrip(b"["))
    if not 0 < rank <= MAX_RANK:
        raise NotPlainError
    shape: list[int] = []
    pattern = b""
    for depth in range(1, rank + 1):
        # The first list of this level ends where so many lists end at once.
        start = rank - depth
        end = structure.find(b"]" * depth, start) + depth
        if end < depth:
            raise NotPlainError
        size = (end - start - 1) // (len(pattern) + 1)
        pattern = b"[" + ((pattern + b",") * size)[:-1] + b"]"  # no longer than the list it stands for
        shape.append(size)
    if pattern != structure:
        raise NotPlainError
    return tuple(reversed(shape))
