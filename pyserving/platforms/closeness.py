"""How far arrays of numbers are from each other, in units of what is tolerated."""

import ml_dtypes
import numpy as np

from pyserving.platforms.model import Array

RELATIVE = 1e-4
"""Of the element. Sums of single precision in another order stay well below it; half precision does not."""
OF_LARGEST = 1e-5
"""Of the largest element of the output, since what cancels out keeps the error of what it was made of."""

_NARROW_FLOATS = frozenset(
    np.dtype(kind)
    for kind in (
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e4m3b11fnuz,
        ml_dtypes.float8_e5m2fnuz,
    )
)


def is_inexact(dtype: np.dtype) -> bool:
    """Whether its elements are rounded: floating point, real or complex, of any width."""
    return dtype.kind in "fc" or dtype in _NARROW_FLOATS


def in_units(off: Array, tolerance: Array) -> Array:
    """``off`` divided by ``tolerance``; where neither is anything, 0."""
    with np.errstate(all="ignore"):
        # Where both are 0 there is nothing to tolerate.
        units = np.divide(off, tolerance, out=np.where(off > 0, np.inf, 0.0), where=tolerance > 0)
    clear: Array = np.nan_to_num(units, nan=0.0, posinf=np.inf)
    return clear
