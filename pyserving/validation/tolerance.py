"""How far an answer may be from what is expected."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pyserving.core.errors import invalid_argument
from pyserving.platforms.closeness import OF_LARGEST, RELATIVE, is_inexact
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.protos import messages


@dataclass(frozen=True, slots=True)
class Bound:
    """|found - expected| may be up to the sum of these three."""

    relative: float = 0.0
    """Times the magnitude of the element that is expected."""
    absolute: float = 0.0
    of_largest: float = 0.0
    """Times that of the largest element of the output."""


_SINGLE = Bound(RELATIVE, of_largest=OF_LARGEST)
_NARROW = Bound(2e-2, of_largest=2e-3)
"""Sums of half precision in another order."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By dtype. What has no bound must be equal; NaN equals NaN."""

    bounds: Mapping[DType, Bound] = field(default_factory=dict)
    inexact: Bound | None = None
    """Of the floating and complex types that ``bounds`` does not have; None: enough for rounding, by their width."""

    def of(self, dtype: np.dtype) -> Bound | None:
        """None: the elements must be equal."""
        bound = self.bounds.get(DTYPE_OF.get(dtype, DType.INVALID))
        if bound is not None or not is_inexact(dtype):
            return bound
        return self.inexact or (_NARROW if dtype.itemsize <= 2 else _SINGLE)


def read_tolerance(entries: Iterable[messages.Tolerance]) -> Tolerance:
    """Raises INVALID_ARGUMENT for a bound that cannot be, and for one of a type that has no numbers."""
    bounds: dict[DType, Bound] = {}
    inexact = None
    for entry in entries:
        dtype = DType(entry.dtype)
        if not (0 <= entry.relative < np.inf and 0 <= entry.absolute < np.inf):
            raise invalid_argument(
                f"Expected a tolerance of 0 or more; got relative: {entry.relative:g} absolute: {entry.absolute:g}"
            )
        bound = Bound(entry.relative, entry.absolute)
        if dtype is DType.INVALID:
            inexact = bound
        elif dtype in (DType.STRING, DType.BOOL) or dtype not in NUMPY_OF:
            raise invalid_argument(f"Expected a tolerance for a type of numbers; got DT_{dtype.name}")
        else:
            bounds[dtype] = bound
    return Tolerance(bounds, inexact)
