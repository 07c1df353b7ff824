"""Sizes of dimensions that are not all known: products of a number and of names."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

_BATCH = "the number of rows fed"


@dataclass(frozen=True, slots=True)
class Size:
    """``factor`` times the sizes that ``symbols`` stand for; a symbol may occur more than once."""

    factor: int
    symbols: tuple[str, ...] = ()
    """Sorted. Each stands for a size that is the same for all requests that may be joined, but for that of BATCH."""

    @property
    def number(self) -> int | None:
        """The size itself, where it has no symbols."""
        return None if self.symbols else self.factor

    @property
    def is_per_batch(self) -> bool:
        """Whether it changes with the number of rows fed."""
        return _BATCH in self.symbols

    @property
    def rows_per_fed_row(self) -> "Size | None":
        """What it is a multiple of the number of rows fed by; None where it is not so many times that number."""
        rows = self.divided_by(BATCH)
        return None if rows is None or rows.is_per_batch or rows.factor < 1 else rows

    def __mul__(self, other: "Size") -> "Size":
        factor = self.factor * other.factor
        return Size(factor, tuple(sorted(self.symbols + other.symbols)) if factor else ())

    def divided_by(self, other: "Size") -> "Size | None":
        """None where the quotient is not known to be whole."""
        if not other.factor or self.factor % other.factor:
            return None
        left = Counter(self.symbols)
        left.subtract(other.symbols)
        if any(count < 0 for count in left.values()):
            return None
        return Size(self.factor // other.factor, tuple(sorted(left.elements())))


BATCH = Size(1, (_BATCH,))
ONE = Size(1)

Shape = tuple[Size, ...]


def product(sizes: Iterable[Size]) -> Size:
    return prod(sizes, start=ONE)
