"""May requests be joined, row by row? What shapes tell of it."""

from collections.abc import Mapping

from pyserving.platforms.model import TensorSpec


def has_batch_dimension(inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]) -> bool:
    """Whether the first dimension of all inputs and outputs is open, and no other of the outputs.

    An output whose rows may differ in size from run to run may well take it from the largest of the batch.
    """
    return all(spec.shape is not None and spec.shape[:1] == (None,) for spec in inputs.values()) and all(
        spec.shape is not None and spec.shape[:1] == (None,) and None not in spec.shape[1:] for spec in outputs.values()
    )
