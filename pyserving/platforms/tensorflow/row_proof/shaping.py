"""Operations on shapes, and those that arrange elements anew."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyserving.platforms.tensorflow.row_proof.call import Call, Rules, all_rows, as_fixed, checked_axis, inner_axis
from pyserving.platforms.tensorflow.row_proof.sizes import ONE, Shape, Size, product
from pyserving.platforms.tensorflow.row_proof.values import Fixed, Numbers, Rows, Unproven, Value, numbers

RULES = Rules()

_INFERRED = Size(-1)
"""In the shape that Reshape is given: whatever is left."""


@RULES("Const")
def const(call: Call) -> Value:
    return call.read_constant(call.tensor("value"))


@RULES("VarHandleOp")
def variable_handle(call: Call) -> Value:
    return Fixed((), variable=call.shape("shape"))


@RULES("ReadVariableOp")
def read_variable(call: Call) -> Value:
    return Fixed(call.fixed(0).variable)


@RULES("Variable", "VariableV2")
def variable(call: Call) -> Value:
    return Fixed(call.shape("shape"))


@RULES("NoOp")
def nothing(_: Call) -> list[Value | None]:
    return []


# Shapes


@RULES("Shape")
def shape(call: Call) -> Value:
    return numbers(_shape(call, 0))


@RULES("ShapeN")
def shapes(call: Call) -> list[Value | None]:
    return [numbers(_shape(call, index)) for index in range(len(call.inputs))]


@RULES("VariableShape")
def variable_shape(call: Call) -> Value:
    found = call.fixed(0).variable
    if found is None:
        raise Unproven("the shape of the variable is not known")
    return numbers(found)


@RULES("Size")
def size(call: Call) -> Value:
    return numbers([product(_shape(call, 0))], ())


@RULES("Rank")
def rank(call: Call) -> Value:
    return numbers([Size(len(_shape(call, 0)))], ())


def _shape(call: Call, index: int) -> Shape:
    value = call.input(index)
    return value.shape if isinstance(value, Rows | Numbers) else call.shape_of(index)


@RULES("Range")
def make_range(call: Call) -> Value:
    if not all(isinstance(value, Numbers) for value in call.inputs):
        raise Unproven("its limits are not known")
    limits = [call.numbers(index, ndim=0).sizes[0] for index in range(3)]
    if any(limit.is_per_batch for limit in limits):
        raise Unproven("it counts the rows")
    found = [limit.number for limit in limits if limit.number is not None]
    if len(found) < 3 or found[2] == 0 or len(range(*found)) > MAX_NUMBERS:
        return Fixed((call.new_size(),))
    return numbers(map(Size, range(*found)))


MAX_NUMBERS = 256
"""Of larger tensors the elements are not looked at."""


# Joining and splitting along another dimension than that of the rows


@RULES("Pack")
def pack(call: Call) -> Value:
    axis = call.integer("axis", 0)
    if all(isinstance(value, Numbers) for value in call.inputs):
        contents = [call.numbers(index).content for index in range(len(call.inputs))]
        if all(content.shape == contents[0].shape for content in contents):
            return Numbers(np.stack(contents, checked_axis([axis], contents[0].ndim + 1)))
    if not any(isinstance(value, Rows) for value in call.inputs):
        first = call.shape_of(0)
        for value in call.inputs:
            as_fixed(value, "an input")
        axis = checked_axis([axis], len(first) + 1)
        return Fixed((*first[:axis], Size(len(call.inputs)), *first[axis:]))
    rows = all_rows(call.inputs)
    axis = inner_axis(checked_axis([axis], rows[0].rank + 1))
    return Rows((*rows[0].shape[:axis], Size(len(rows)), *rows[0].shape[axis:]))


@RULES("ConcatV2")
def concat(call: Call) -> Value:
    return _concat(call, call.inputs[:-1], len(call.inputs) - 1)


@RULES("Concat")
def concat_axis_first(call: Call) -> Value:
    return _concat(call, call.inputs[1:], 0)


def _concat(call: Call, values: Sequence[Value], axis_index: int) -> Value:
    if all(isinstance(value, Numbers) for value in values):
        contents = [value.content for value in values if isinstance(value, Numbers)]
        if all(content.ndim == 1 for content in contents):
            call.axis(axis_index, 1)
            return Numbers(np.concatenate(contents))
    if not any(isinstance(value, Rows) for value in values):
        found = [as_fixed(value, "an input").shape for value in values]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return Fixed()
        axis = call.axis(axis_index, len(known[0]))
        return Fixed(_with_sum(call, known, axis))
    rows = all_rows(values)
    axis = inner_axis(call.axis(axis_index, rows[0].rank))
    return Rows(_with_sum(call, [value.shape for value in rows], axis))


def _with_sum(call: Call, found: Sequence[Shape], axis: int) -> Shape:
    joined = [each[axis].number for each in found]
    known = [number for number in joined if number is not None]
    total = Size(sum(known)) if len(known) == len(joined) else call.new_size()
    return (*found[0][:axis], total, *found[0][axis + 1 :])


@RULES("Unpack")
def unpack(call: Call) -> list[Value | None]:
    axis, value = call.integer("axis", 0), call.input(0)
    if isinstance(value, Numbers):
        axis = checked_axis([axis], value.content.ndim)
        return [Numbers(np.asarray(content, object)) for content in np.moveaxis(value.content, axis, 0)]
    found = _shape(call, 0)
    axis = checked_axis([axis], len(found))
    kept = (*found[:axis], *found[axis + 1 :])
    if isinstance(value, Rows):
        inner_axis(axis)
        return [Rows(kept)] * call.integer("num", 0)
    return [Fixed(kept)] * call.integer("num", 0)


@RULES("Split")
def split(call: Call) -> list[Value | None]:
    count = call.integer("num_split", 0)
    found = _shape(call, 1)
    axis = call.axis(0, len(found))
    part = found[axis].divided_by(Size(count)) or call.new_size()
    return _split(call, 1, axis, [part] * count)


@RULES("SplitV")
def split_by_sizes(call: Call) -> list[Value | None]:
    axis = call.axis(2, len(_shape(call, 0)))
    return _split(call, 0, axis, [each if each.factor >= 0 else call.new_size() for each in call.numbers(1).sizes])


def _split(call: Call, index: int, axis: int, parts: Sequence[Size]) -> list[Value | None]:
    found = _shape(call, index)
    results = [(*found[:axis], part, *found[axis + 1 :]) for part in parts]
    if isinstance(call.input(index), Rows):
        inner_axis(axis)
        return [Rows(each) for each in results]
    call.fixed(index)
    return [Fixed(each) for each in results]


# The same elements in another shape


@RULES("Reshape")
def reshape(call: Call) -> Value:
    value, wanted = call.input(0), call.numbers(1, ndim=1).sizes
    if isinstance(value, Numbers) and all(each.number is not None for each in wanted):
        try:
            return Numbers(value.content.reshape(call.known(1)))
        except ValueError:
            raise Unproven("it does not fit") from None
    if isinstance(value, Rows):
        return Rows(_reshaped(call, value.shape, wanted))
    found = call.fixed(0).shape
    if any(each.is_per_batch for each in wanted):
        raise Unproven("the shape depends on the batch")
    if found is None:
        return Fixed(tuple(call.new_size() if each == _INFERRED else each for each in wanted))
    return Fixed(_reshaped(call, found, wanted))


def _reshaped(call: Call, found: Shape, wanted: Sequence[Size]) -> Shape:
    """Elements keep their order: where dimension 0 is again that of the batch, rows stay what they were."""
    if wanted.count(_INFERRED) > 1 or any(each.factor < 0 for each in wanted if each != _INFERRED):
        raise Unproven("the shape is not known")
    given = product(each for each in wanted if each != _INFERRED)
    left = product(found).divided_by(given)
    if left is None and wanted[:1] == [_INFERRED]:
        raise Unproven("a row of the result may have elements of two rows")
    # The sizes of a row are not taken for granted but for the batch: TensorFlow refuses what does not fit.
    return tuple((left or call.new_size()) if each == _INFERRED else each for each in wanted)


@RULES("Squeeze")
def squeeze(call: Call) -> Value:
    axes = call.integers("squeeze_dims")
    if isinstance(call.input(0), Numbers):
        content = call.numbers(0).content
        dropped = tuple(checked_axis([axis], content.ndim) for axis in axes) or None
        try:
            return Numbers(np.asarray(np.squeeze(content, dropped), object))
        except ValueError:
            raise Unproven("it does not fit") from None
    if not axes:
        raise Unproven("it drops every dimension of size 1, that of the batch too")
    found = _shape(call, 0)
    positions = {checked_axis([axis], len(found)) for axis in axes}
    kept = tuple(each for axis, each in enumerate(found) if axis not in positions)
    if isinstance(call.input(0), Rows):
        inner_axis(min(positions))
        return Rows(kept)
    return Fixed(kept)


@RULES("ExpandDims")
def expand_dims(call: Call) -> Value:
    value = call.input(0)
    if isinstance(value, Numbers):
        return Numbers(np.expand_dims(value.content, call.axis(1, value.content.ndim + 1)))
    found = _shape(call, 0)
    axis = call.axis(1, len(found) + 1)
    result = (*found[:axis], ONE, *found[axis:])
    if isinstance(value, Rows):
        inner_axis(axis)
        return Rows(result)
    return Fixed(result)


@RULES("Transpose")
def transpose(call: Call) -> Value:
    order, found = call.known(1), _shape(call, 0)
    if sorted(order) != list(range(len(found))):
        raise Unproven("the order of dimensions is not known")
    result = tuple(found[axis] for axis in order)
    if isinstance(call.input(0), Rows):
        if order[0] != 0:
            raise Unproven("it moves the dimension of the rows")
        return Rows(result)
    call.fixed(0)
    return Fixed(result)


@RULES("ReverseV2")
def reverse(call: Call) -> Value:
    value = call.rows()
    for axis in call.known(1):
        inner_axis(checked_axis([axis], value.rank))
    return value


@RULES("Pad", "PadV2", "MirrorPad")
def pad(call: Call) -> Value:
    value, amounts = call.rows(), call.numbers(1, ndim=2).content
    if amounts.shape != (value.rank, 2) or any(each.number != 0 for each in amounts[0]):
        raise Unproven("it adds rows")
    if call.node.op == "PadV2":
        call.fixed(2)

    def padded(before: Size, found: Size, after: Size) -> Size:
        if before.is_per_batch or after.is_per_batch:
            raise Unproven("its amounts depend on the batch")
        if before.number == after.number == 0:
            return found
        if before.number is None or after.number is None or found.number is None:
            return call.new_size()
        return Size(before.number + found.number + after.number)

    tail = [padded(amounts[axis][0], value.shape[axis], amounts[axis][1]) for axis in range(1, value.rank)]
    return Rows((value.shape[0], *tail))


# The same elements several times


@RULES("Fill")
def fill(call: Call) -> Value:
    if call.shape_of(1):
        raise Unproven("the value is no scalar")
    return _of_shape(tuple(call.numbers(0, ndim=1).sizes))


def _of_shape(found: Shape) -> Value:
    """Elements that depend on nothing, or each on its place in the row."""
    return Rows(found) if any(each.is_per_batch for each in found) else Fixed(found)


@RULES("BroadcastTo")
def broadcast_to(call: Call) -> Value:
    value, wanted = call.input(0), tuple(call.numbers(1, ndim=1).sizes)
    if isinstance(value, Rows):
        if value.rank != len(wanted) or value.shape[0] != wanted[0]:
            raise Unproven("it repeats rows")
        return Rows(wanted)
    found = call.shape_of(0)
    if len(found) < len(wanted) or found[:1] == (ONE,) or not any(each.is_per_batch for each in wanted):
        return _of_shape(wanted)
    raise Unproven("what is repeated may have as many rows as the batch")


@RULES("Tile")
def tile(call: Call) -> Value:
    value, times = call.input(0), call.numbers(1, ndim=1).sizes
    found = _shape(call, 0)
    if len(found) != len(times):
        raise Unproven("it does not fit")
    result = tuple(each * factor for each, factor in zip(found, times, strict=True))
    if isinstance(value, Rows):
        if times[0] != ONE:
            raise Unproven("it repeats rows")
        return Rows(result)
    call.fixed(0)
    return _of_shape(result)


# A part of the elements


@RULES("StridedSlice")
def strided_slice(call: Call) -> Value:
    value, begin, end, strides = (call.input(index) for index in range(4))
    masks = {name: call.integer(f"{name}_mask", 0) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    (length,) = _shape(call, 3)
    if length.number is None:
        raise Unproven("how many dimensions it cuts is not known")
    if isinstance(value, Numbers):
        index: Any = _index(call, length.number, masks)
        try:
            return Numbers(np.asarray(value.content[index], object))
        except IndexError:
            raise Unproven("it does not fit") from None
    found = _shape(call, 0)
    is_new = [bool(masks["new_axis"] >> position & 1) for position in range(length.number)]
    is_ellipsis = [bool(masks["ellipsis"] >> position & 1) for position in range(length.number)]
    if sum(is_ellipsis) > 1:
        raise Unproven("it has more than one ellipsis")
    named = sum(not new and not ellipsis for new, ellipsis in zip(is_new, is_ellipsis, strict=True))
    if named > len(found):
        raise Unproven("it does not fit")
    result: list[Size] = []
    axis = 0
    for position in range(length.number):
        if is_ellipsis[position]:
            stop = axis + len(found) - named
            result += found[axis:stop]
            axis = stop
        elif is_new[position]:
            if axis == 0 and isinstance(value, Rows):
                raise Unproven("it adds a dimension before that of the rows")
            result.append(ONE)
        else:
            cut = _Cut(call, masks, position, found[axis], begin, end, strides)
            if axis == 0 and isinstance(value, Rows):
                cut.check_whole()
                result.append(found[0])
            elif not masks["shrink_axis"] >> position & 1:
                result.append(cut.size())
            axis += 1
    result += found[axis:]
    if isinstance(value, Rows):
        return Rows(tuple(result))
    call.fixed(0)
    for bound in (begin, end, strides):
        as_fixed(bound, "a bound")
    return Fixed(tuple(result))


class _Cut:
    """What a strided slice takes of one dimension."""

    def __init__(
        self,
        call: Call,
        masks: dict[str, int],
        position: int,
        whole: Size,
        begin: Value,
        end: Value,
        strides: Value,
    ) -> None:
        self._call = call
        self._whole = whole
        self._shrinks = bool(masks["shrink_axis"] >> position & 1)
        # Where shrink_axis is set, TensorFlow does not look at the other masks.
        self._begin = None if masks["begin"] >> position & 1 else _element(begin, position)
        self._end = None if masks["end"] >> position & 1 else _element(end, position)
        self._step = _element(strides, position)

    def check_whole(self) -> None:
        if self._shrinks or self._step != ONE or self._begin not in (None, Size(0)):
            raise Unproven("it takes a part of the rows")
        if self._end is not None and self._end != self._whole:
            raise Unproven("it takes a part of the rows")

    def size(self) -> Size:
        if self._step is not None and self._step.number in (1, -1) and self._begin is None and self._end is None:
            return self._whole
        bounds = (self._begin, self._end, self._step)
        if any(bound is not None and bound.is_per_batch for bound in bounds):
            raise Unproven("what it takes depends on the batch")
        begin, end, step = (None if bound is None else bound.number for bound in bounds)
        unknown = any(bound is not None and bound.number is None for bound in bounds)
        if self._whole.number is None or unknown or not step:
            return self._call.new_size()
        return Size(len(range(*slice(begin, end, step).indices(self._whole.number))))


_UNKNOWN = Size(1, ("a bound that is not known",))


def _element(value: Value, position: int) -> Size:
    """One bound of a slice."""
    if isinstance(value, Numbers):
        if not 0 <= position < len(value.sizes):
            raise Unproven("it does not fit")
        return value.sizes[position]
    if isinstance(value, Rows):
        raise Unproven("what it takes depends on the values fed")
    return _UNKNOWN


def _index(call: Call, length: int, masks: dict[str, int]) -> tuple[object, ...]:
    """As numpy has it; all bounds must be numbers."""
    index: list[object] = []
    for position in range(length):
        bit = 1 << position
        if masks["ellipsis"] & bit:
            index.append(Ellipsis)
            continue
        if masks["new_axis"] & bit:
            index.append(None)
            continue
        begin, end, step = (_number(_element(call.input(place), position)) for place in (1, 2, 3))
        if masks["shrink_axis"] & bit:
            index.append(begin)
        else:
            index.append(slice(None if masks["begin"] & bit else begin, None if masks["end"] & bit else end, step))
    return tuple(index)


def _number(found: Size) -> int:
    if found.number is None:
        raise Unproven("a bound is not known")
    return found.number


@RULES("Slice")
def cut_out(call: Call) -> Value:
    value = call.rows()
    begin, sizes = call.numbers(1, ndim=1).sizes, call.numbers(2, ndim=1).sizes
    if len(begin) != value.rank or len(sizes) != value.rank:
        raise Unproven("it does not fit")
    if begin[0] != Size(0) or sizes[0] not in (_INFERRED, value.shape[0]):
        raise Unproven("it takes a part of the rows")
    if any(each.is_per_batch for each in (*begin[1:], *sizes[1:])):
        raise Unproven("what it takes depends on the batch")
    return Rows((value.shape[0], *(each if each.factor >= 0 else call.new_size() for each in sizes[1:])))
