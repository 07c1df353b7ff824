"""Operations that look something up for each element, and those on serialized examples."""

from pyserving.platforms.tensorflow.row_proof.call import Call, Rules, checked_axis, inner_axis
from pyserving.platforms.tensorflow.row_proof.sizes import Shape, Size
from pyserving.platforms.tensorflow.row_proof.values import Fixed, Numbers, Rows, Unproven, Value, numbers

RULES = Rules()


@RULES("Gather", "GatherV2", "ResourceGather")
def gather(call: Call) -> Value:
    """``axis`` of the parameters is replaced by the dimensions of the indices."""
    parameters, indices = call.input(0), call.input(1)
    batch_dims = call.integer("batch_dims", 0)
    if isinstance(parameters, Numbers) and isinstance(indices, Numbers):
        return _gather_numbers(call, parameters, batch_dims)
    if isinstance(parameters, Rows):
        found: Shape = parameters.shape
    elif call.node.op == "ResourceGather":
        variable = call.fixed(0).variable
        if variable is None:
            raise Unproven("the shape of the variable is not known")
        found = variable
    else:
        found = call.shape_of(0)
    places = indices.shape if isinstance(indices, Rows) else call.shape_of(1)
    axis = call.axis(2, len(found)) if call.node.op == "GatherV2" else 0
    if batch_dims < 0 or batch_dims > axis or batch_dims > len(places):
        raise Unproven("its batch dimensions are not understood")
    result = (*found[:axis], *places[batch_dims:], *found[axis + 1 :])
    if isinstance(parameters, Rows):
        inner_axis(axis)
        if isinstance(indices, Rows):
            # Only as one of the batch dimensions do the rows of both correspond.
            if batch_dims < 1 or parameters.shape[0] != indices.shape[0]:
                raise Unproven("it picks rows")
        elif batch_dims:
            raise Unproven("an input that is fixed has as many rows as the batch")
        return Rows(result)
    if isinstance(indices, Rows):
        if axis or batch_dims:
            raise Unproven("the dimension of the rows is not the first of the result")
        return Rows(result)
    return Fixed(result)


def _gather_numbers(call: Call, parameters: Numbers, batch_dims: int) -> Value:
    places = call.known(1)
    if parameters.content.ndim != 1 or batch_dims or not all(0 <= place < parameters.content.size for place in places):
        raise Unproven("it does not fit")
    return numbers([parameters.sizes[place] for place in places], call.numbers(1).content.shape)


@RULES("GatherNd")
def gather_nd(call: Call) -> Value:
    """The last dimension of the indices names a place in the parameters."""
    found, indices = call.shape_of(0), call.rows(1, least=2)
    depth = indices.shape[-1].number
    if depth is None or depth > len(found) or call.integer("batch_dims", 0):
        raise Unproven("how much it picks is not known")
    return Rows((*indices.shape[:-1], *found[depth:]))


@RULES("OneHot")
def one_hot(call: Call) -> Value:
    value = call.rows()
    call.fixed(2)
    call.fixed(3)
    call.fixed(1)
    depth = call.numbers(1, ndim=0).sizes[0] if isinstance(call.input(1), Numbers) else call.new_size()
    axis = inner_axis(checked_axis([call.integer("axis", -1)], value.rank + 1))
    return Rows((*value.shape[:axis], depth, *value.shape[axis:]))


@RULES("LookupTableFind", "LookupTableFindV2")
def look_up(call: Call) -> Value:
    call.fixed(0)
    if call.shape_of(2):
        raise Unproven("the values in the table are no scalars")
    return call.rows(1)


@RULES("LookupTableSize", "LookupTableSizeV2")
def table_size(call: Call) -> Value:
    call.fixed(0)
    return Fixed(())


@RULES("ParseExampleV2")
def parse_example(call: Call) -> list[Value | None]:
    """What is sparse or ragged has no row for each example."""
    sparse, ragged = call.integer("num_sparse", 0), call.length("ragged_value_types")
    return _parsed(call, 3 * sparse, call.length("Tdense"), 2 * ragged, range(2, len(call.inputs)))


@RULES("ParseExample")
def parse_example_v1(call: Call) -> list[Value | None]:
    return _parsed(call, 3 * call.integer("Nsparse", 0), call.integer("Ndense", 0), 0, range(2, len(call.inputs)))


def _parsed(call: Call, before: int, count: int, after: int, constants: range) -> list[Value | None]:
    rows = call.rows(rank=1)
    names = call.shape_of(1)
    if names != (Size(0),):
        raise Unproven("it is given a name for each example")
    for index in constants:
        call.fixed(index)
    shapes = call.shapes("dense_shapes")
    if len(shapes) != count:
        raise Unproven("its shapes are not known")
    # Without a shape, the longest of the batch says how long all are.
    dense = [None if shape is None else Rows((rows.shape[0], *shape)) for shape in shapes]
    return [*([None] * before), *dense, *([None] * after)]
