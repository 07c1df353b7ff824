"""Lifts long values out of a serialized PredictRequest, so that protobuf does not copy them, twice, on their way.

What is lifted: ``tensor_content``, a packed field of floats, and strings. They are read where they lie. The rest is a
short message of the same meaning but for them. A message that is put together in an unusual way (a field or a name
that comes twice, say) is left to protobuf.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pyserving.platforms.dtypes import DType
from pyserving.wire.tensor_proto import LiftedValues, varint
from pyserving.wire.wire_format import BYTES, VARINT, fields

_LONG = 16 << 10
"""Bytes of a tensor from which on it is worth while."""

_INPUTS = 2  # field numbers of PredictRequest, of an entry of its map, and of TensorProto
_KEY, _VALUE = 1, 2
_DTYPE, _SHAPE, _VERSION = 1, 2, 3
_TENSOR_CONTENT, _FLOAT_VAL, _DOUBLE_VAL, _STRING_VAL = 4, 5, 6, 8
_NAMES = {_TENSOR_CONTENT: "tensor_content", _FLOAT_VAL: "float_val", _DOUBLE_VAL: "double_val"}
_RAW_DTYPE = {_FLOAT_VAL: DType.FLOAT, _DOUBLE_VAL: DType.DOUBLE}
_ITEM_SIZE = {_FLOAT_VAL: 4, _DOUBLE_VAL: 8}


class Lifted(NamedTuple):
    rest: bytes
    """The message without the values."""
    contents: Mapping[str, LiftedValues]
    """The values, by name of the input."""


def lift_contents(data: bytes) -> Lifted:
    """The long values of the PredictRequest in ``data``; none where there are none, or where it is no usual one."""
    parts: list[bytes | memoryview] = []
    contents: dict[str, LiftedValues] = {}
    names = []
    view = memoryview(data)
    at = 0
    try:
        for number, kind, start, end in fields(data, 0, len(data)):
            if number == _INPUTS:
                if kind != BYTES:
                    raise ValueError
                name, entry, content = _lift_entry(data, view, start, end)
                names.append(name)
                if content is not None:
                    contents[name] = content
                    parts += (b"\x12", varint(len(entry)), entry)
                    at = end
                    continue
            parts.append(view[at:end])
            at = end
    except (ValueError, IndexError):
        return Lifted(data, {})
    if not contents or len(set(names)) < len(names):
        return Lifted(data, {})
    return Lifted(b"".join(parts), contents)


def _lift_entry(data: bytes, view: memoryview, start: int, end: int) -> tuple[str, bytes, LiftedValues | None]:
    """Name, the entry without its values, and those. Raises ValueError unless the entry is a key and a tensor."""
    parts = list(fields(data, start, end))
    if [(number, kind) for number, kind, _, _ in parts] != [(_KEY, BYTES), (_VALUE, BYTES)]:
        raise ValueError
    (_, _, key_start, key_end), (_, _, tensor_start, tensor_end) = parts
    name = data[key_start:key_end].decode()
    if tensor_end - tensor_start < _LONG:
        return name, b"", None
    tensor, content = _lift_values(data, view, tensor_start, tensor_end)
    if content is None:
        return name, b"", None
    entry = b"".join((view[start:key_end], b"\x12", varint(len(tensor)), tensor))
    return name, entry, content


def _lift_values(data: bytes, view: memoryview, start: int, end: int) -> tuple[bytes, LiftedValues | None]:
    """A TensorProto without its values, and those; None if they are not of one kind that can be lifted."""
    dtype: int | None = None
    strings: list[bytes] = []
    found: list[tuple[int, int, int]] = []
    rest = []
    at = start
    for number, kind, begin, stop in fields(data, start, end):
        if number == _STRING_VAL and kind == BYTES:
            strings.append(data[begin:stop])
        elif number in (_TENSOR_CONTENT, _FLOAT_VAL, _DOUBLE_VAL) and kind == BYTES:
            found.append((number, begin, stop))
        elif number in (_DTYPE, _VERSION) and kind == VARINT:
            if number == _DTYPE:
                dtype = data[begin] if stop == begin + 1 and dtype is None else -1
            rest.append(view[at:stop])
        elif number == _SHAPE and kind == BYTES:
            rest.append(view[at:stop])
        else:
            return b"", None
        at = stop
    remaining = b"".join(rest)
    if strings:
        lifted = LiftedValues("string_val", memoryview(b""), strings)  # no view of the message, which may go now
        return remaining, lifted if dtype == DType.STRING and not found else None
    if len(found) != 1:
        return remaining, None
    ((number, begin, stop),) = found
    if number == _TENSOR_CONTENT:
        fits = dtype != DType.STRING
    else:
        fits = dtype == _RAW_DTYPE[number] and not (stop - begin) % _ITEM_SIZE[number]
    return remaining, LiftedValues(_NAMES[number], view[begin:stop]) if fits and begin < stop else None
