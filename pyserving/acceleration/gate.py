"""Which inputs a faster engine was checked with: all others are left to TensorFlow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyserving.platforms.model import Array

_NO_ROWS = frozenset({(), (0,)})
"""The beginnings of shapes of scalars, and of arrays that are empty."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets through what is like the inputs of a trial: of their shapes, and within their range."""

    names: Sequence[str]
    shapes: frozenset[tuple[tuple[int, ...], ...]]
    """Of all inputs, in the order of ``names``; without dimension 0, where rows are free."""
    rows_are_free: bool
    """Rows are independent of each other (``Signature.row_wise``), so any number of them will do."""
    ranges: Sequence[tuple[float, float] | None]
    """The smallest and the largest element, or None where all values were tried. NaN lies outside of any."""

    def admits(self, inputs: Mapping[str, Array]) -> bool:
        arrays = [inputs[name] for name in self.names]
        if self.rows_are_free:
            shapes = tuple([array.shape[1:] for array in arrays])
            # Inputs with different numbers of rows were not tried: TensorFlow may refuse what others broadcast.
            rows = {array.shape[:1] for array in arrays}
            if len(rows) != 1 or not rows.isdisjoint(_NO_ROWS):
                return False
        else:
            shapes = tuple([array.shape for array in arrays])
        if shapes not in self.shapes:
            return False
        for array, limits in zip(arrays, self.ranges, strict=True):
            if limits is not None and array.size and not (limits[0] <= array.min() and array.max() <= limits[1]):
                return False
        return True

    def to_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "shapes": sorted(self.shapes),
            "rows_are_free": self.rows_are_free,
            "ranges": list(self.ranges),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Gate":
        """Raises KeyError, TypeError or ValueError for what ``to_json`` did not make."""
        return cls(
            names=tuple(map(str, fields["names"])),
            shapes=frozenset(tuple(tuple(map(int, shape)) for shape in shapes) for shapes in fields["shapes"]),
            rows_are_free=bool(fields["rows_are_free"]),
            ranges=tuple(None if limits is None else (limits[0], limits[1]) for limits in fields["ranges"]),
        )
