"""Whether an answer is the one that is expected, and where not."""

from collections.abc import Mapping

import numpy as np

from pyserving.platforms.closeness import in_units, is_inexact
from pyserving.platforms.dtypes import DTYPE_OF
from pyserving.platforms.model import Array
from pyserving.validation.tolerance import Bound, Tolerance

_SHOWN_VALUE = 60
"""Characters."""


def differences(expected: Mapping[str, Array], found: Mapping[str, Array], tolerance: Tolerance) -> list[str]:
    """A sentence for each output that differs: strings, whole numbers and NaN in any way, others beyond ``tolerance``.

    Outputs are compared by name; one that is missing differs, and so does one too many.
    """
    texts = [f"output {name} is missing" for name in expected if name not in found]
    texts += [f"output {name} was not expected" for name in found if name not in expected]
    texts += [
        f"output {name}: {text}"
        for name in expected
        if name in found and (text := _difference(expected[name], found[name], tolerance))
    ]
    return texts


def _difference(expected: Array, found: Array, tolerance: Tolerance) -> str:
    if expected.dtype != found.dtype:
        return f"expected dtype {_dtype_name(expected)}, got {_dtype_name(found)}"
    if expected.shape != found.shape:
        return f"expected shape {list(expected.shape)}, got {list(found.shape)}"
    bound = tolerance.of(expected.dtype)
    expected, found = _plain(expected), _plain(found)
    differs = np.asarray(expected != found) if bound is None else _beyond(expected, found, bound)
    count = int(differs.sum())
    if not count:
        return ""
    position = np.unravel_index(int(differs.argmax()), differs.shape)
    where = f"element {[int(index) for index in position]}" if position else "the value"
    first = f"{where} is {_shown(found[position])}, expected {_shown(expected[position])}"
    return first if expected.size == 1 else f"{first}; {count} of {expected.size} elements differ"


def _beyond(expected: Array, found: Array, bound: Bound) -> Array:
    """Which elements are further apart than ``bound`` allows, [of their shape] bool."""
    if not is_inexact(expected.dtype):
        # As Python's integers: double precision would make equal what differs.
        a, b = expected.astype(object), found.astype(object)
        off, size = np.abs(b - a).astype(np.float64), np.abs(a).astype(np.float64)
        return _too_far(off, size, bound)
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        a, b = expected.astype(wide), found.astype(wide)
    finite = np.isfinite(a) & np.isfinite(b)
    # What is infinite or no number in one of them must be the same in the other.
    differs: Array = ~(finite | (a == b) | (np.isnan(a) & np.isnan(b)))
    differs[finite] = _too_far(np.abs(a[finite] - b[finite]), np.abs(a[finite]), bound)
    return differs


def _too_far(off: Array, size: Array, bound: Bound) -> Array:
    largest = size.max(initial=0.0)
    far: Array = in_units(off, bound.relative * size + bound.absolute + bound.of_largest * largest) > 1
    return far


def _plain(array: Array) -> Array:
    """Quantised numbers as the integers that they are."""
    return array if array.dtype.names is None else array.view(array.dtype[0])


def _dtype_name(array: Array) -> str:
    dtype = DTYPE_OF.get(array.dtype)
    return str(array.dtype) if dtype is None else dtype.text


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, bytes) else str(value)
    return text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 3] + "..."
