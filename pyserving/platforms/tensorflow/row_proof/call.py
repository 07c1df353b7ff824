"""One operation of a graph with what is known of its inputs, as the rules see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pyserving.platforms.tensorflow.row_proof.sizes import Shape, Size
from pyserving.platforms.tensorflow.row_proof.values import Fixed, Numbers, Rows, Unproven, Value
from pyserving.protos.messages import AttrValue, NodeDef, TensorProto, TensorShapeProto


@dataclass(frozen=True, slots=True)
class Call:
    """Raises Unproven where an input or an attribute is not what is asked for.

    A SavedModel leaves out attributes that have their default, so each is asked for with it.
    """

    node: NodeDef
    inputs: Sequence[Value]
    new_size: Callable[[], Size]
    """A size that nothing is known of, but that it does not change with the batch."""
    read_constant: Callable[[TensorProto], Value]

    # Attributes

    def flag(self, name: str, default: bool) -> bool:
        attribute = self._attribute(name, "b")
        return default if attribute is None else attribute.b

    def integer(self, name: str, default: int) -> int:
        attribute = self._attribute(name, "i")
        return default if attribute is None else attribute.i

    def text(self, name: str, default: str) -> str:
        attribute = self._attribute(name, "s")
        return default if attribute is None else attribute.s.decode()

    def integers(self, name: str) -> list[int]:
        """Empty by default."""
        attribute = self._attribute(name, "list")
        return [] if attribute is None else list(attribute.list.i)

    def length(self, name: str) -> int:
        """How many types a list of types has."""
        attribute = self._attribute(name, "list")
        return 0 if attribute is None else len(attribute.list.type)

    def shapes(self, name: str) -> list[Shape | None]:
        """None for one that is not wholly known."""
        attribute = self._attribute(name, "list")
        return [] if attribute is None else [known_shape(shape) for shape in attribute.list.shape]

    def shape(self, name: str) -> Shape | None:
        """None where it is not wholly known."""
        attribute = self._attribute(name, "shape")
        return None if attribute is None else known_shape(attribute.shape)

    def dtype(self, name: str) -> int:
        """0 where it is missing."""
        attribute = self._attribute(name, "type")
        return 0 if attribute is None else attribute.type

    def tensor(self, name: str) -> TensorProto:
        attribute = self._attribute(name, "tensor")
        if attribute is None:
            raise Unproven(f"{name} is missing")
        return attribute.tensor

    def _attribute(self, name: str, kind: str) -> AttrValue | None:
        attributes: Mapping[str, AttrValue] = self.node.attr
        if name not in attributes:
            return None
        attribute = attributes[name]
        if attribute.WhichOneof("value") != kind:
            raise Unproven(f"attribute {name} is no {kind}")
        return attribute

    # Inputs

    def rows(self, index: int = 0, *, rank: int | None = None, least: int = 1) -> Rows:
        """An input that has rows, of this rank or of at least ``least``."""
        value = self.input(index)
        if not isinstance(value, Rows):
            raise Unproven(f"input {index} has no rows")
        if value.rank < least or (rank is not None and value.rank != rank):
            raise Unproven(f"input {index} has {value.rank} dimensions")
        return value

    def fixed(self, index: int) -> Fixed:
        """An input that is the same for any batch."""
        return as_fixed(self.input(index), f"input {index}")

    def shape_of(self, index: int) -> Shape:
        """The shape of an input that is the same for any batch."""
        shape = self.fixed(index).shape
        if shape is None:
            raise Unproven(f"the shape of input {index} is not known")
        return shape

    def numbers(self, index: int, *, ndim: int | None = None) -> Numbers:
        value = self.input(index)
        if not isinstance(value, Numbers) or (ndim is not None and value.content.ndim != ndim):
            raise Unproven(f"the values of input {index} are not known")
        return value

    def known(self, index: int) -> list[int]:
        """The elements of an input, all of which must be numbers."""
        found = [size.number for size in self.numbers(index).sizes]
        result = [number for number in found if number is not None]
        if len(result) < len(found):
            raise Unproven(f"the values of input {index} are not known")
        return result

    def axis(self, index: int, rank: int) -> int:
        """An input that names one of ``rank`` dimensions, from 0."""
        return checked_axis(self.known(index), rank)

    def input(self, index: int) -> Value:
        if index >= len(self.inputs):
            raise Unproven(f"input {index} is missing")
        return self.inputs[index]


def as_fixed(value: Value, what: str) -> Fixed:
    if isinstance(value, Numbers) and not value.is_per_batch:
        return Fixed(value.shape)
    if isinstance(value, Fixed):
        return value
    raise Unproven(f"{what} depends on the batch")


def checked_axis(found: Sequence[int], rank: int) -> int:
    """The one dimension of ``rank`` that is named, from 0."""
    if len(found) != 1 or not -rank <= found[0] < rank:
        raise Unproven(f"{found} is no dimension of {rank}")
    return found[0] % rank


def inner_axis(axis: int) -> int:
    """``axis``, which is not that of the rows."""
    if axis == 0:
        raise Unproven("it works along the rows")
    return axis


def known_shape(shape: TensorShapeProto) -> Shape | None:
    """None where it is not wholly known."""
    if shape.unknown_rank or any(dim.size < 0 for dim in shape.dim):
        return None
    return tuple(Size(dim.size) for dim in shape.dim)


def all_rows(values: Sequence[Value]) -> list[Rows]:
    """``values``, all of which have rows, as many for each fed row, and the same rank."""
    rows = [value for value in values if isinstance(value, Rows)]
    if not rows or len(rows) < len(values):
        raise Unproven("not all inputs have rows")
    if any(value.rank != rows[0].rank or value.shape[0] != rows[0].shape[0] for value in rows):
        raise Unproven("the rows of the inputs do not correspond")
    return rows


Rule = Callable[[Call], "Value | list[Value | None]"]
"""What is known of the outputs: of the only one, or of each. Raises Unproven."""


R = TypeVar("R", bound=Rule)


class Rules(dict[str, Rule]):
    """By operation."""

    def __call__(self, *operations: str) -> Callable[[R], R]:
        """Decorates the rule for these operations."""

        def add(rule: R) -> R:
            self.update(dict.fromkeys(operations, rule))
            return rule

        return add
