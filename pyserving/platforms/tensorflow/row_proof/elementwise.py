"""Operations that compute each element from the elements at the same place."""

import operator
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from pyserving.platforms.dtypes import DType
from pyserving.platforms.tensorflow.row_proof.call import Call, Rules, all_rows, as_fixed
from pyserving.platforms.tensorflow.row_proof.sizes import ONE, Shape, Size
from pyserving.platforms.tensorflow.row_proof.values import Fixed, Numbers, Rows, Unproven, Value, broadcast

RULES = Rules()


@RULES(
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Conj", "Cos", "Cosh", "Digamma", "Elu"),
    *("Erf", "Erfc", "Erfinv", "Exp", "Expm1", "Floor", "Inv", "Invert", "IsFinite", "IsInf", "IsNan"),
    *("LeakyRelu", "Lgamma", "Log", "Log1p", "LogicalNot", "Ndtri", "Neg", "OnesLike", "Reciprocal", "Relu", "Relu6"),
    *("Rint", "Round", "Rsqrt", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Square"),
    *("Tan", "Tanh", "ZerosLike"),
    *("CheckNumerics", "CheckNumericsV2", "ComplexAbs", "FakeQuantWithMinMaxArgs", "Imag", "PreventGradient", "Real"),
    *("AsString", "Bucketize", "DecodeBase64", "EncodeBase64", "StaticRegexFullMatch", "StaticRegexReplace"),
    *("StringLength", "StringLower", "StringStrip", "StringToHashBucket", "StringToHashBucketFast"),
    *("StringToHashBucketStrong",),
    *("StringToNumber", "StringUpper", "UnicodeTranscode"),
)
def unary(call: Call) -> Value:
    value = call.input(0)
    if isinstance(value, Rows):
        return value
    return Fixed(call.fixed(0).shape)


@RULES("Identity", "PlaceholderWithDefault", "Snapshot", "StopGradient")
def same(call: Call) -> Value:
    return call.input(0)


@RULES("IdentityN")
def each_the_same(call: Call) -> list[Value | None]:
    return list(call.inputs)


@RULES("Cast")
def cast(call: Call) -> Value:
    value = call.input(0)
    if isinstance(value, Numbers) and call.dtype("DstT") in _WHOLE:
        return value
    return value if isinstance(value, Rows) else Fixed(call.fixed(0).shape)


@RULES(
    *("Add", "AddV2", "Atan2", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Complex", "Div", "DivNoNan", "FloorDiv"),
    *("FloorMod", "Greater", "GreaterEqual", "LeftShift", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "Maximum"),
    *("Minimum", "Mod", "Mul", "MulNoNan", "NextAfter", "Pow", "RealDiv", "RightShift", "SelectV2"),
    *("SquaredDifference", "Sub", "TruncateDiv", "TruncateMod", "Xdivy", "Xlog1py", "Xlogy"),
)
def with_broadcasting(call: Call) -> Value:
    compute = _ARITHMETIC.get(call.node.op)
    if compute is not None and all(isinstance(value, Numbers) for value in call.inputs):
        with suppress(Unproven):
            return computed(compute, call.numbers(0), call.numbers(1))
    return broadcast_values(call, call.inputs)


@RULES("Equal", "NotEqual")
def compare(call: Call) -> Value:
    if not call.flag("incompatible_shape_error", True):
        raise Unproven("its answer may be about the shapes")
    return broadcast_values(call, call.inputs)


@RULES("ClipByValue")
def clip(call: Call) -> Value:
    for limit in (1, 2):
        if call.shape_of(limit):
            raise Unproven("the limits are no scalars")
    return unary(call)


@RULES("FakeQuantWithMinMaxVars", "RegexFullMatch", "RegexReplace", "Substr")
def with_scalars(call: Call) -> Value:
    """All inputs but the first are one value."""
    if any(call.shape_of(index) for index in range(1, len(call.inputs))):
        raise Unproven("another input than the first is no scalar")
    return unary(call)


@RULES("AddN", "AccumulateNV2")
def add_all(call: Call) -> Value:
    if any(isinstance(value, Rows) for value in call.inputs):
        return broadcast_values(call, all_rows(call.inputs))
    return Fixed(call.fixed(0).shape)


@RULES("StringJoin")
def string_join(call: Call) -> Value:
    rows = all_rows([value for index, value in enumerate(call.inputs) if not _is_scalar(call, index)])
    return broadcast_values(call, rows)


@RULES("Select")
def select(call: Call) -> Value:
    """The condition has the shape of the other two, or is a vector that chooses whole rows."""
    if not isinstance(call.input(0), Rows) and not call.shape_of(0):
        return broadcast_values(call, all_rows(call.inputs[1:]))
    condition, *chosen = (call.input(index) for index in range(3))
    rows = all_rows(chosen)
    if call.rows(0).rank == 1 and call.rows(0).shape[0] == rows[0].shape[0]:
        return broadcast_values(call, rows)
    return broadcast_values(call, all_rows([condition, *rows]))


def computed(compute: Callable[[Size, Size], Size | None], a: Numbers, b: Numbers) -> Numbers:
    """Two tensors of numbers combined element by element. Raises Unproven where the result is no longer known."""
    try:
        content = np.frompyfunc(compute, 2, 1)(a.content, b.content)
    except ValueError:
        raise Unproven("the shapes do not fit each other") from None
    whole = np.empty(np.shape(content), object)
    whole[...] = content
    if any(size is None or abs(size.factor) >= _LARGE for size in whole.ravel().tolist()):
        raise Unproven("a size is not known")
    return Numbers(whole)


def _mul(a: Size, b: Size) -> Size:
    return a * b


def _div(a: Size, b: Size) -> Size | None:
    if a.number is not None and b.number:
        return Size(a.number // b.number)
    return a.divided_by(b) if b.factor > 0 else None


def _of_numbers(compute: Callable[[int, int], int]) -> Callable[[Size, Size], Size | None]:
    def combine(a: Size, b: Size) -> Size | None:
        return None if a.number is None or b.number is None else Size(compute(a.number, b.number))

    return combine


_ARITHMETIC: dict[str, Callable[[Size, Size], Size | None]] = {
    **dict.fromkeys(("Add", "AddV2"), _of_numbers(operator.add)),
    "FloorDiv": _div,
    "Maximum": _of_numbers(max),
    "Minimum": _of_numbers(min),
    "Mul": _mul,
    "Sub": _of_numbers(operator.sub),
}
_LARGE = 1 << 31
"""From here on a product of int32 is not what it should be."""
_WHOLE = (DType.INT32, DType.INT64)


def broadcast_values(call: Call, values: Sequence[Value]) -> Value:
    """What these are brought to, element by element."""
    rows = [value for value in values if isinstance(value, Rows)]
    fixed = [as_fixed(value, "an input").shape for value in values if not isinstance(value, Rows)]
    known = [shape for shape in fixed if shape is not None]
    if not rows:
        return Fixed(filled(call, broadcast(*known)) if len(known) == len(fixed) else None)
    first, rank = all_rows(rows)[0].shape[0], rows[0].rank
    if len(known) < len(fixed) or any(len(shape) > rank or (len(shape) == rank and shape[0] != ONE) for shape in known):
        # For a batch of one row it would be brought to the shape of the other.
        raise Unproven("an input that is fixed may have as many rows as the batch")
    tails = [value.shape[1:] for value in rows] + [shape[1:] if len(shape) == rank else shape for shape in known]
    return Rows((first, *filled(call, broadcast(*tails))))


def filled(call: Call, sizes: Sequence[Size | None]) -> Shape:
    """With a new size for each that is not known."""
    return tuple(call.new_size() if size is None else size for size in sizes)


def _is_scalar(call: Call, index: int) -> bool:
    return not isinstance(call.input(index), Rows) and call.shape_of(index) == ()
