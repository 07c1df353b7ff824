"""What is known of a tensor in a graph, before anything is fed."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pyserving.platforms.model import Array
from pyserving.platforms.tensorflow.row_proof.sizes import ONE, Shape, Size


class Unproven(Exception):  # noqa: N818  # no error: the proof was not found, as its text explains
    """It is not known that rows stay apart."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Depends on nothing that is fed but its sizes, and not on the number of rows: the same for all that is joined."""

    shape: Shape | None = None
    """None where it is not known. No size in it changes with the number of rows."""
    variable: Shape | None = None
    """Of a handle: the shape of the variable it leads to."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """Small whole numbers that are known, those of a shape for example. They may change with the number of rows."""

    content: Array
    """Of ``Size``, dtype object. A negative number has no symbols."""

    @property
    def shape(self) -> Shape:
        return tuple(Size(size) for size in self.content.shape)

    @property
    def is_per_batch(self) -> bool:
        return any(size.is_per_batch for size in self.sizes)

    @property
    def sizes(self) -> list[Size]:
        """All elements, in their order."""
        found: list[Size] = self.content.ravel().tolist()
        return found


@dataclass(frozen=True, slots=True)
class Rows:
    """A row, or several one after the other, for each row that is fed, computed from that row alone.

    So what rows 3 to 5 of the batch give is found at the same place in what the whole batch gives, and their sizes
    are the same in any batch.
    """

    shape: Shape
    """The first: how many rows are fed times how many there are for each. No other changes with the batch."""

    def __post_init__(self) -> None:
        if not self.shape or self.shape[0].rows_per_fed_row is None:
            raise Unproven("dimension 0 is not that of the batch")
        if any(size.is_per_batch or size.factor < 0 for size in self.shape[1:]):
            raise Unproven("another dimension than 0 changes with the batch")

    @property
    def rank(self) -> int:
        return len(self.shape)


Value = Fixed | Numbers | Rows


def numbers(sizes: Iterable[Size], shape: tuple[int, ...] | None = None) -> Numbers:
    """``shape``: None for a vector."""
    listed = list(sizes)
    content = np.empty(len(listed), object)
    content[:] = listed
    return Numbers(content if shape is None else content.reshape(shape))


def broadcast(*shapes: Shape) -> list[Size | None]:
    """The shape that these are brought to; None for a size that cannot be told."""
    rank = max(map(len, shapes))
    padded = [(ONE,) * (rank - len(shape)) + shape for shape in shapes]
    result: list[Size | None] = []
    for sizes in zip(*padded, strict=True):
        others = {size for size in sizes if size != ONE}
        known = {size for size in others if size.number is not None}
        if len(others) <= 1:
            result.append(others.pop() if others else ONE)
        else:
            result.append(known.pop() if len(known) == 1 else None)
    return result
