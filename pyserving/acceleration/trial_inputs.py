"""Inputs for trials, made up after a signature's shapes and dtypes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np

from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array, Signature, TensorSpec

_FLOATS = frozenset({DType.FLOAT})
_INTEGERS = frozenset({DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.UINT8, DType.UINT16})
_TRIED = _FLOATS | _INTEGERS | {DType.BOOL}
"""Element types that every engine computes as TensorFlow does, where it computes them at all."""
_MOST_BYTES = 256 << 20
_SMALL_INTEGERS = 256
"""Types with at most so many values are tried with all of them."""

Inputs = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Kind:
    """Numbers as models meet them: pixels, normalised features, raw measurements."""

    name: str
    smallest: float
    largest: float
    make: Callable[[np.random.Generator, tuple[int, ...]], Array]


FLOAT_KINDS = (
    Kind("zeros", 0.0, 1.0, lambda _, shape: np.zeros(shape)),
    Kind("from 0 to 1", 0.0, 1.0, lambda random, shape: random.random(shape)),
    Kind("normal", -8.0, 8.0, lambda random, shape: np.clip(random.standard_normal(shape), -8, 8)),
    Kind("from 0 to 255", 0.0, 255.0, lambda random, shape: random.integers(0, 256, shape).astype(np.float64)),
    Kind("up to 10,000", -1e4, 1e4, lambda random, shape: random.uniform(-1e4, 1e4, shape)),
)
"""Rising by what the largest may be."""


def objection(signature: Signature) -> str:
    """Why this signature stays on TensorFlow without a trial; empty where it may be tried."""
    if not signature.stateless:
        return "it may keep state from run to run, or draws random numbers"
    if not signature.steady:
        return "it has a loop or an operation whose time depends on values"
    for spec in (*signature.inputs.values(), *signature.outputs.values()):
        if spec.dtype not in _TRIED:
            return f"{spec.name} is of type {spec.dtype.text}"
        if not spec.tensor_name:
            return f"{spec.name} is a sparse or composite tensor"
    if not signature.inputs:
        return "it has no input"
    return ""


def tails(signature: Signature) -> dict[str, tuple[int, ...]] | None:
    """The shapes of one row, where the signature says them and only dimension 0 is open; else None."""
    found = {}
    for name, spec in signature.inputs.items():
        if spec.shape is None or spec.shape[:1] != (None,):
            return None
        tail = tuple(size for size in spec.shape[1:] if size is not None)
        if len(tail) < len(spec.shape) - 1:
            return None
        found[name] = tail
    return found


def whole_shapes(signature: Signature) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the inputs, where the signature says them all; else None."""
    found = {}
    for name, spec in signature.inputs.items():
        if spec.shape is None or None in spec.shape:
            return None
        found[name] = tuple(size or 0 for size in spec.shape)
    return found


def fits(shapes: Mapping[str, tuple[int, ...]], signature: Signature) -> bool:
    """Whether inputs of these shapes are small enough to make up."""
    sizes = (prod(shape) * NUMPY_OF[signature.inputs[name].dtype].itemsize for name, shape in shapes.items())
    return sum(sizes) <= _MOST_BYTES


class InputMaker:
    """Makes inputs of a signature, the same ones every time."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._random = np.random.default_rng(1)
        self.ranges: dict[str, tuple[int, int]] = {}
        """Of wide integers, the values that TensorFlow takes."""

    def make(self, shapes: Mapping[str, tuple[int, ...]], kind: Kind) -> Inputs:
        return {name: self._make(self._signature.inputs[name], shape, kind) for name, shape in shapes.items()}

    def find_ranges(self, shapes: Mapping[str, tuple[int, ...]], run: Callable[[Inputs], object]) -> None:
        """Finds out which integers the signature takes: those that look something up in a table take but a few.

        ``run`` raises ServingError where TensorFlow refuses the inputs.
        """
        wide = [name for name, spec in self._signature.inputs.items() if _is_wide(spec)]
        self.ranges = dict.fromkeys(wide, (0, 0))

        def accepts(name: str, value: int) -> bool:
            inputs = self.make(shapes, FLOAT_KINDS[0])
            inputs[name] = np.full_like(inputs[name], value)
            try:
                run(inputs)
            except ServingError:
                return False
            return True

        for name in wide:
            limits = np.iinfo(NUMPY_OF[self._signature.inputs[name].dtype])
            # Engines compute integers in 32 bits.
            top, bottom = min(int(limits.max), 2**31 - 1), max(int(limits.min), -(2**31))
            high = _last(partial(accepts, name), top)
            low = -_last(partial(_negated, partial(accepts, name)), -bottom)
            self.ranges[name] = (low, high)

    def _make(self, spec: TensorSpec, shape: tuple[int, ...], kind: Kind) -> Array:
        dtype = NUMPY_OF[spec.dtype]
        if spec.dtype is DType.BOOL:
            return self._random.integers(0, 2, shape).astype(bool)
        if spec.dtype in _FLOATS:
            return kind.make(self._random, shape).astype(dtype)
        if spec.name in self.ranges:
            low, high = self.ranges[spec.name]
            width = max(1, min(high, int(kind.largest)))
            lowest = max(low, -width if kind.name == "normal" else 0)
            return self._random.integers(lowest, width, shape, endpoint=True).astype(dtype)
        limits = np.iinfo(dtype)
        return self._random.integers(limits.min, limits.max, shape, dtype, endpoint=True)

    def extremes(self, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Inputs]:
        """The smallest and the largest integers that TensorFlow takes, beside ordinary numbers."""
        for name, (low, high) in self.ranges.items():
            for value in (low, high):
                inputs = self.make(shapes, FLOAT_KINDS[1])
                inputs[name] = np.full_like(inputs[name], value)
                yield inputs


def gate_ranges(
    signature: Signature, floats: tuple[float, float], ranges: Mapping[str, tuple[int, int]]
) -> list[tuple[float, float] | None]:
    """The values of each input that were tried: ``floats`` for those of floating point."""
    found: list[tuple[float, float] | None] = []
    for name, spec in signature.inputs.items():
        if spec.dtype in _FLOATS:
            found.append(floats)
        else:
            found.append(ranges.get(name))
    return found


def rows_of(shapes: Mapping[str, tuple[int, ...]], rows: int) -> dict[str, tuple[int, ...]]:
    return {name: (rows, *tail) for name, tail in shapes.items()}


def _is_wide(spec: TensorSpec) -> bool:
    dtype = NUMPY_OF[spec.dtype]
    return spec.dtype in _INTEGERS and np.iinfo(dtype).max - np.iinfo(dtype).min >= _SMALL_INTEGERS


def _negated(accepts: Callable[[int], bool], value: int) -> bool:
    return accepts(-value)


def _last(accepts: Callable[[int], bool], top: int) -> int:
    """The largest number up to ``top`` that is accepted, as if all below it were; 0 where not even 1 is."""
    if accepts(top):
        return top
    low, high = 0, 1
    while high < top and accepts(high):
        low, high = high, high * 2
    high = min(high, top)
    while high - low > 1:
        middle = (low + high) // 2
        if accepts(middle):
            low = middle
        else:
            high = middle
    return low
