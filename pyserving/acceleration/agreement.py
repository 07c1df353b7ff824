"""Whether two engines have computed the same, as far as floating point lets them."""

from collections.abc import Mapping, Sequence

import numpy as np

from pyserving.platforms.closeness import OF_LARGEST, RELATIVE, in_units
from pyserving.platforms.model import Array

_TIMES_NUDGED = 8.0
"""How much further than by the nudge of its inputs (see ``nudged``) an answer may move."""
_MOST_NUDGED = 1e-2
"""Of the largest element: what moves further is a step, and no error that has grown."""
_NUDGE = 2.0**-20


def nudged(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs, those of floating point larger by a few units in the last place.

    What TensorFlow's own answer moves by, when its inputs do, is the error to expect of any engine: an exponential of
    large numbers may multiply it by thousands.
    """
    return {
        name: (array * array.dtype.type(1 + _NUDGE)) if array.dtype.kind == "f" else array
        for name, array in inputs.items()
    }


def disagreement(expected: Sequence[Array], moved: Sequence[Array], found: Sequence[Array]) -> float:
    """How far ``found`` is from ``expected``, in units of what is tolerated: up to 1 they agree.

    ``moved`` is what the engine of ``expected`` gives for nudged inputs. Some elements happen to move by little, in an
    output that moves by more: half of its elements say how much that is. Infinite where shapes, dtypes or elements
    that are not numbers differ, or an integer that the nudge did not move.
    """
    return max((_of_one(*arrays) for arrays in zip(expected, moved, found, strict=True)), default=0.0)


def largest_difference(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """Of any element, for people to read. Infinite where shapes differ."""
    return max((_largest(a, b) for a, b in zip(expected, found, strict=True)), default=0.0)


def _largest(expected: Array, found: Array) -> float:
    if expected.shape != found.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    with np.errstate(all="ignore"):
        difference = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    return float(np.nanmax(difference, initial=0.0))


def _of_one(expected: Array, moved: Array, found: Array) -> float:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if not expected.size:
        return 0.0
    if expected.dtype.kind != "f":
        settled = expected == moved if expected.shape == moved.shape else np.ones(expected.shape, bool)
        return 0.0 if np.array_equal(expected[settled], found[settled]) else float("inf")
    with np.errstate(all="ignore"):
        a, b, c = (array.astype(np.float64) for array in (expected, found, moved))
        finite = np.isfinite(a)
        if not np.array_equal(finite, np.isfinite(b)):
            return float("inf")
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return float("inf")
        a, b = a[finite], b[finite]
        if not a.size:
            return 0.0
        moves = np.nan_to_num(np.abs(c[finite] - a), nan=np.inf) if expected.shape == moved.shape else np.zeros_like(a)
        largest = np.abs(a).max()
        grown = np.minimum(_TIMES_NUDGED * np.maximum(moves, np.median(moves)), _MOST_NUDGED * largest)
        tolerance = RELATIVE * np.abs(a) + OF_LARGEST * largest + grown
        return float(in_units(np.abs(a - b), tolerance).max())
