"""Serialized PredictRequests that differ from one seen before in the values of their tensors alone.

A client asks the same of the same model again and again, with other numbers. Numbers that lie on the wire as they
lie in memory (``tensor_content``, or one packed field of floats) can be any bytes, and nothing around them depends on
them. So if all other bytes of a message are those of one that protobuf has read, then so is its meaning: the values
are taken from where they lie, and nothing is parsed.

What is seen twice in this way, by its length, is learned. Integers in ``*_val`` fields are varints, and strings have
lengths of their own: such messages are always parsed.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Array
from pyserving.protos.messages import PredictRequest
from pyserving.wire.tensor_proto import FLOAT8, read_tensor
from pyserving.wire.wire_format import BYTES, fields

H = TypeVar("H")

_MAX_LENGTHS = 1024
_MAX_FIXED = 4096
"""Bytes that a template keeps of a message."""
_ATTEMPTS = 4
"""So many templates are looked for among the messages of one length."""

_INPUTS = 2  # field numbers of PredictRequest, of an entry of its map, and of TensorProto
_KEY, _VALUE = 1, 2
_DTYPE, _SHAPE, _VERSION = 1, 2, 3
_TENSOR_CONTENT = 4
_RAW_VALUES = {
    DType.FLOAT: 5,  # float_val
    DType.DOUBLE: 6,  # double_val
    DType.COMPLEX64: 9,  # scomplex_val
    DType.COMPLEX128: 12,  # dcomplex_val
} | dict.fromkeys(FLOAT8, 18)  # float8_val
"""The ``*_val`` fields whose values lie as they do in memory."""


class Hole(NamedTuple):
    """Where the values of one input lie."""

    name: str
    start: int
    end: int
    dtype: np.dtype
    shape: tuple[int, ...]


class Template(Generic[H]):
    """One message's bytes but for its values, and what was made of them."""

    __slots__ = ("_between", "_holes", "_prefix", "_suffix", "head")

    def __init__(self, data: bytes, holes: Sequence[Hole], head: H) -> None:
        """``holes`` in the order of their place, at least one."""
        self.head = head
        self._holes = holes
        self._prefix = data[: holes[0].start]
        self._suffix = data[holes[-1].end :]
        self._between = [(a.end, data[a.end : b.start]) for a, b in pairwise(holes)]

    def fits(self, data: bytes) -> bool:
        """Whether ``data``, of the same length as the template's message, differs from it in its values alone."""
        if not (data.startswith(self._prefix) and data.endswith(self._suffix)):
            return False
        for start, piece in self._between:  # noqa: SIM110, a generator would cost more than all else here
            if not data.startswith(piece, start):
                return False
        return True

    def values(self, data: bytes) -> dict[str, Array]:
        """By name of the input; each array has memory of its own."""
        return {name: np.ndarray(shape, dtype, data[start:end]) for name, start, end, dtype, shape in self._holes}


class PredictTemplates(Generic[H]):
    """The templates of one method. ``H`` is whatever the method makes of a message's fields other than the values."""

    def __init__(self) -> None:
        self._templates: dict[int, list[Template[H]]] = {}
        self._seen: dict[int, int] = {}
        """By length: how many messages had to be parsed, up to the last attempt."""

    def find(self, data: bytes) -> Template[H] | None:
        """The template that ``data`` is a case of."""
        for template in self._templates.get(len(data), ()):
            if template.fits(data):
                return template
        return None

    def learn(self, data: bytes, request: PredictRequest, head: H) -> None:
        """To be told of each message that had to be parsed: ``data``, parsed to ``request``, of which ``head`` was
        made. A length has to come twice before it is worth the work."""
        size = len(data)
        seen = self._seen.get(size, 0)
        if seen > _ATTEMPTS:
            return
        if not seen and len(self._seen) >= _MAX_LENGTHS:  # clients come and go: start over
            self._seen.clear()
            self._templates.clear()
        self._seen[size] = seen + 1
        if seen:
            holes = find_holes(data, request)
            if holes and size - sum(hole.end - hole.start for hole in holes) <= _MAX_FIXED:
                self._templates.setdefault(size, []).append(Template(data, holes, head))


def find_holes(data: bytes, request: PredictRequest) -> list[Hole]:
    """Where the values of all inputs lie, in the order of their place; empty where not all lie as they do in memory,
    or a message has been put together in an unusual way. ``request`` is what protobuf makes of ``data``."""
    holes = []
    try:
        for number, kind, start, end in fields(data, 0, len(data)):
            if number == _INPUTS:
                if kind != BYTES:
                    return []
                holes.append(_hole(data, start, end, request))
    except (ValueError, ServingError):
        return []
    names = {hole.name for hole in holes}
    return holes if len(names) == len(holes) == len(request.inputs) else []


def _hole(data: bytes, start: int, end: int, request: PredictRequest) -> Hole:
    """Raises ValueError unless the entry of the map is one key and one tensor with values that lie as in memory."""
    parts = list(fields(data, start, end))
    if [(number, kind) for number, kind, _, _ in parts] != [(_KEY, BYTES), (_VALUE, BYTES)]:
        raise ValueError
    (_, _, key_start, key_end), (_, _, tensor_start, tensor_end) = parts
    name = data[key_start:key_end].decode()
    proto = request.inputs[name]
    if proto.dtype == DType.STRING:
        raise ValueError
    raw = (_TENSOR_CONTENT, _RAW_VALUES.get(DType(proto.dtype)))
    values = []
    for number, kind, value_start, value_end in fields(data, tensor_start, tensor_end):
        if number in raw and kind == BYTES:
            values.append((value_start, value_end))
        elif number not in (_DTYPE, _SHAPE, _VERSION):
            raise ValueError
    if len(values) != 1:
        raise ValueError
    ((value_start, value_end),) = values
    array = read_tensor(proto, name)
    if value_start == value_end or array.tobytes() != data[value_start:value_end]:
        raise ValueError  # values are left out, to be repeated, or are too many
    return Hole(name, value_start, value_end, array.dtype, array.shape)
