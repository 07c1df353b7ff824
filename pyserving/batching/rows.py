"""Joins the rows of several requests, and splits what comes out."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from pyserving.platforms.model import Array, Signature

Inputs = Mapping[str, Array]
Key = tuple[object, ...]

_MAX_PADDED_DIMS = 6
"""The real server pads tensors of up to so many dimensions."""


def count_rows(inputs: Inputs) -> int | None:
    """The size of dimension 0, the same for all inputs; None for a request that cannot be joined with another."""
    rows: int | None = None
    for array in inputs.values():
        if not array.ndim or not array.size or (rows is not None and len(array) != rows):
            return None
        rows = len(array)
    return rows


def fit(inputs: Inputs, signature: Signature) -> bool:
    """Whether the inputs have the shapes that the signature names; of no shape means vectors."""
    return all(_fits(array.shape, signature.inputs[name].shape) for name, array in inputs.items())


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> bool:
    if wanted is None:
        return len(shape) == 1
    return len(shape) == len(wanted) and all(
        size is None or size == found for found, size in zip(shape, wanted, strict=True)
    )


def join_key(inputs: Inputs, *, pad: bool) -> Key:
    """Requests with the same key can be joined: all dimensions but the first agree, or (``pad``) their number."""
    return tuple(
        [
            (array.dtype, array.ndim if pad and array.ndim <= _MAX_PADDED_DIMS else array.shape[1:])
            for array in inputs.values()
        ]
    )


def slice_rows(inputs: Inputs, start: int, stop: int) -> dict[str, Array]:
    return {name: array[start:stop] for name, array in inputs.items()}


def join(parts: Sequence[Inputs], rows: int) -> dict[str, Array]:
    """All rows of ``parts``, one part after the other, then copies of a row of the last part up to ``rows``.

    Where other dimensions than the first differ, each part is padded behind to the largest with its own first
    element. Both are the real server's choices: what is repeated is known to be a valid input.
    """
    missing = rows - sum(len(next(iter(part.values()))) for part in parts)
    joined = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
            arrays = _pad(arrays)
        if missing:
            arrays.append(np.repeat(arrays[-1][:1], missing, axis=0))
        joined[name] = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    return joined


def _pad(arrays: Sequence[Array]) -> list[Array]:
    largest = np.max([array.shape for array in arrays], axis=0)[1:]
    padded = []
    for array in arrays:
        whole = np.empty((len(array), *largest), array.dtype)
        whole[...] = array.flat[0]
        whole[tuple(slice(size) for size in array.shape)] = array
        padded.append(whole)
    return padded


def split(outputs: Sequence[Array], sizes: Sequence[int], rows: int) -> list[list[Array]]:
    """The outputs of each part, where the parts had ``sizes`` rows and what was run had ``rows``. See ``can_split``."""
    if len(sizes) == 1 and sizes[0] == rows:
        return [list(outputs)]
    return [[output[start:stop] for output in outputs] for start, stop in pairwise(accumulate(sizes, initial=0))]


def can_split(outputs: Sequence[Array], rows: int) -> bool:
    """Whether each of the outputs has a row for each row that went in."""
    return all(output.ndim and len(output) == rows for output in outputs)
