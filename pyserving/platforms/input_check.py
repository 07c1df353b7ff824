"""Does what a request feeds fit the signature? Some engines compute something from anything, or tell it badly."""

from collections.abc import Sequence

from pyserving.core.errors import invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF
from pyserving.platforms.model import Array, TensorSpec

_MAX_DIM = (1 << 31) - 1


def check_rank(spec: TensorSpec, array: Array) -> None:
    """Raises INVALID_ARGUMENT unless the array has as many dimensions as ``spec`` says."""
    if spec.shape is not None and array.ndim != len(spec.shape):
        expected = _text(spec.shape)
        raise invalid_argument(
            f"input {spec.name} must have {len(expected)} dimensions, {expected}; got {array.ndim}: {list(array.shape)}"
        )


def check_input(spec: TensorSpec, array: Array, *, any_batch: bool = False) -> None:
    """Raises INVALID_ARGUMENT unless the array has the dtype and a shape that ``spec`` says.

    ``any_batch``: dimension 0 may have another size than the spec's. No engine takes a dimension of 2^31 or more.
    """
    if array.dtype != NUMPY_OF[spec.dtype]:
        given = DTYPE_OF[array.dtype].text if array.dtype in DTYPE_OF else str(array.dtype)
        raise invalid_argument(f"input {spec.name} must be a {spec.dtype.text} tensor, got {given}")
    shape = array.shape
    if any(size > _MAX_DIM for size in shape):
        raise invalid_argument(f"input {spec.name} has shape {list(shape)}, of which no dimension may be so large")
    wanted = spec.shape
    if wanted is None or wanted == shape:
        return
    fits = len(shape) == len(wanted) and all(
        size is None or size == given or (any_batch and dimension == 0)
        for dimension, (size, given) in enumerate(zip(wanted, shape, strict=True))
    )
    if not fits:
        raise invalid_argument(f"input {spec.name} must have shape {_text(wanted)}, got {list(shape)}")


def _text(shape: Sequence[int | None]) -> list[int]:
    return [-1 if size is None else size for size in shape]
