"""Operations that compute elements from many others of the same row."""

from collections.abc import Callable

from pyserving.platforms.tensorflow.row_proof.call import Call, Rules, all_rows, checked_axis, inner_axis
from pyserving.platforms.tensorflow.row_proof.elementwise import filled
from pyserving.platforms.tensorflow.row_proof.sizes import ONE, Shape, Size, product
from pyserving.platforms.tensorflow.row_proof.values import Fixed, Numbers, Rows, Unproven, Value, broadcast, numbers

RULES = Rules()

# Products


@RULES("BiasAdd")
def bias_add(call: Call) -> Value:
    call.fixed(1)
    return call.rows(least=2)


@RULES("MatMul")
def matmul(call: Call) -> Value:
    left = call.rows(rank=2)
    if call.flag("transpose_a", False):
        raise Unproven("it sums over the rows")
    return Rows((left.shape[0], _columns(call, call.fixed(1).shape, "transpose_b")))


@RULES("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def batch_matmul(call: Call) -> Value:
    """A product of the last two dimensions, the others are brought to each other's shape."""
    a, b = call.input(0), call.input(1)
    left = a.shape if isinstance(a, Rows) else call.shape_of(0)
    right = b.shape if isinstance(b, Rows) else call.shape_of(1)
    if len(left) < 2 or len(right) < 2:
        raise Unproven("it does not fit")
    rank = max(len(left), len(right))
    if rank == 2:
        if not isinstance(a, Rows) or isinstance(b, Rows) or call.flag("adj_x", False):
            raise Unproven("it sums over the rows, or multiplies rows with each other")
        return Rows((left[0], _columns(call, right, "adj_y")))
    if isinstance(a, Rows) and isinstance(b, Rows):
        all_rows([a, b])
    elif len(left if isinstance(a, Rows) else right) < rank:
        raise Unproven("the dimension of the rows is not the first of the result")
    else:
        other = right if isinstance(a, Rows) else left
        if len(other) == rank and other[0] != ONE:
            raise Unproven("an input that is fixed may have as many rows as the batch")
    first = left[0] if isinstance(a, Rows) else right[0]
    batch = broadcast(*([shape[1:-2] if len(shape) == rank else shape[:-2] for shape in (left, right)]))
    lines = left[-1] if call.flag("adj_x", False) else left[-2]
    return Rows((first, *filled(call, batch), lines, _columns(call, right, "adj_y")))


def _columns(call: Call, right: Shape | None, transposed: str) -> Size:
    if right is None:
        return call.new_size()
    return right[-2] if call.flag(transposed, False) else right[-1]


@RULES("Einsum")
def einsum(call: Call) -> Value:
    equation = call.text("equation", "").replace(" ", "")
    operands, arrow, result = equation.partition("->")
    terms = operands.split(",")
    if not arrow or "." in equation or len(terms) != len(call.inputs):
        raise Unproven(f"{equation} is not understood")
    all_rows_label = {
        term[:1] for term, value in zip(terms, call.inputs, strict=True) if isinstance(value, Rows) and term
    }
    if len(all_rows_label) != 1:
        raise Unproven("the rows of its inputs do not correspond")
    (label,) = all_rows_label
    sizes: dict[str, Size] = {}
    for index, (term, value) in enumerate(zip(terms, call.inputs, strict=True)):
        if isinstance(value, Rows):
            if term.count(label) != 1 or len(term) != value.rank:
                raise Unproven(f"{equation} is not understood")
            if sizes.setdefault(label, value.shape[0]) != value.shape[0]:
                raise Unproven("the rows of its inputs do not correspond")
            shape: Shape | None = value.shape
        else:
            shape = call.fixed(index).shape
            if label in term:
                raise Unproven("an input that is fixed may have as many rows as the batch")
        if shape is not None and len(shape) == len(term):
            for name, size in zip(term, shape, strict=True):
                if sizes.get(name) is None or sizes[name].number is None:
                    sizes[name] = size if name != label else sizes[label]
    if result.count(label) != 1 or not result.startswith(label):
        raise Unproven("the dimension of the rows is not the first of the result")
    return Rows(filled(call, [sizes.get(name) for name in result]))


# Pictures and other grids


@RULES("Conv2D", "Conv3D")
def convolution(call: Call) -> Value:
    kernel = call.fixed(1).shape
    return _slide(call, call.rows(least=4), kernel[:-2] if kernel else None, lambda _: kernel[-1] if kernel else None)


@RULES("DepthwiseConv2dNative")
def depthwise(call: Call) -> Value:
    kernel = call.fixed(1).shape
    return _slide(
        call, call.rows(rank=4), kernel[:2] if kernel else None, lambda _: kernel[2] * kernel[3] if kernel else None
    )


@RULES("AvgPool", "AvgPool3D", "MaxPool", "MaxPool3D")
def pool(call: Call) -> Value:
    window = call.integers("ksize")
    value = call.rows(least=4)
    layout = _layout(call, value.rank)
    if len(window) != value.rank or window[0] != 1 or window[layout.index("C")] != 1:
        raise Unproven("its window reaches over rows or channels")
    inner = tuple(Size(size) for axis, size in zip(layout, window, strict=True) if axis not in "NC")
    return _slide(call, value, inner, lambda channels: channels)


def _slide(call: Call, value: Rows, window: Shape | None, channels: Callable[[Size], Size | None]) -> Rows:
    """A window moves over the inner dimensions."""
    layout = _layout(call, value.rank)
    strides = call.integers("strides")
    dilations = call.integers("dilations") or [1] * value.rank
    padding = call.text("padding", "")
    explicit = call.integers("explicit_paddings")
    if len(strides) != value.rank or len(dilations) != value.rank or strides[0] != 1 or dilations[0] != 1:
        raise Unproven("it moves along the rows")
    if padding == "EXPLICIT" and (len(explicit) != 2 * value.rank or explicit[:2] != [0, 0]):
        raise Unproven("it adds rows")
    inner = iter(window or ())
    sizes: list[Size | None] = []
    for axis, name in enumerate(layout):
        found = value.shape[axis]
        if name == "N":
            sizes.append(found)
        elif name == "C":
            sizes.append(channels(found))
        else:
            extent = next(inner, None)
            added = sum(explicit[2 * axis : 2 * axis + 2]) if padding == "EXPLICIT" else 0
            sizes.append(_steps(found, extent, strides[axis], dilations[axis], added, same=padding == "SAME"))
    return Rows(filled(call, sizes))


def _steps(found: Size, window: Size | None, stride: int, dilation: int, added: int, *, same: bool) -> Size | None:
    """How many places a window has in a dimension."""
    if found.number is None or stride < 1:
        return None
    if same:
        return Size(-(-found.number // stride))
    if window is None or window.number is None:
        return None
    places = found.number + added - (window.number - 1) * dilation
    return Size(-(-places // stride)) if places > 0 else None


def _layout(call: Call, rank: int) -> str:
    """A letter for each dimension. The batch is the first in all that are known here."""
    layout = call.text("data_format", {4: "NHWC", 5: "NDHWC"}.get(rank, ""))
    if layout not in ("NHWC", "NCHW", "NDHWC", "NCDHW") or len(layout) != rank:
        raise Unproven(f"{layout} is not understood")
    return layout


@RULES("Conv2DBackpropInput")
def transposed_convolution(call: Call) -> Value:
    """A layer of its own, Conv2DTranspose, and not only a gradient."""
    value, sizes = call.rows(2, rank=4), call.numbers(0, ndim=1).sizes
    call.fixed(1)
    _layout(call, 4)
    if len(sizes) != 4 or sizes[0] != value.shape[0]:
        raise Unproven("the rows of the result are not those of the input")
    return Rows(tuple(sizes))


@RULES("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(call: Call) -> list[Value | None]:
    if call.flag("is_training", True):
        raise Unproven("it normalises over the batch")
    for index in range(1, len(call.inputs)):
        call.fixed(index)
    return [call.rows(least=4)]


@RULES("LRN")
def local_response(call: Call) -> Value:
    return call.rows(rank=4)


@RULES("ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor")
def resize(call: Call) -> Value:
    value = call.rows(rank=4)
    wanted = call.input(1)
    if isinstance(wanted, Numbers) and not wanted.is_per_batch and len(wanted.sizes) == 2:
        return Rows((value.shape[0], *wanted.sizes, value.shape[3]))
    call.fixed(1)
    return Rows((value.shape[0], call.new_size(), call.new_size(), value.shape[3]))


@RULES("DepthToSpace", "SpaceToDepth")
def space_and_depth(call: Call) -> Value:
    value = call.rows(rank=4)
    _layout(call, 4)
    return Rows((value.shape[0], call.new_size(), call.new_size(), call.new_size()))


# Along one dimension


@RULES("Softmax", "LogSoftmax")
def softmax(call: Call) -> Value:
    return call.rows(least=2)


@RULES("All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum")
def reduce(call: Call) -> Value:
    value = call.input(0)
    keeps = call.flag("keep_dims", False)
    if isinstance(value, Numbers):
        if call.node.op != "Prod" or value.content.ndim != 1 or keeps:
            raise Unproven("a size is not known")
        call.axis(1, 1)
        return numbers([product(value.sizes)], ())
    found = value.shape if isinstance(value, Rows) else call.shape_of(0)
    axes = {checked_axis([axis], len(found)) for axis in call.known(1)}
    result = [ONE if axis in axes else size for axis, size in enumerate(found) if keeps or axis not in axes]
    if isinstance(value, Rows):
        if 0 in axes:
            raise Unproven("it computes one value from all rows")
        return Rows(tuple(result))
    return Fixed(tuple(result))


@RULES("ReduceJoin")
def reduce_join(call: Call) -> Value:
    if not call.known(1):
        raise Unproven("no dimensions mean all of them")
    return reduce(call)


@RULES("ArgMax", "ArgMin")
def arg_extreme(call: Call) -> Value:
    value = call.rows(least=2)
    axis = inner_axis(call.axis(1, value.rank))
    return Rows((*value.shape[:axis], *value.shape[axis + 1 :]))


@RULES("Cumprod", "Cumsum")
def cumulate(call: Call) -> Value:
    value = call.rows(least=2)
    inner_axis(call.axis(1, value.rank))
    return value


@RULES("TopKV2")
def top(call: Call) -> list[Value | None]:
    value = call.rows(least=2)
    wanted = call.input(1)
    call.fixed(1)
    sizes = wanted.sizes if isinstance(wanted, Numbers) else []
    count = sizes[0] if len(sizes) == 1 and sizes[0].factor >= 0 else call.new_size()
    found = Rows((*value.shape[:-1], count))
    return [found, found]
