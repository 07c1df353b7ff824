"""A first run at load time, for it takes many times as long as the next: engines prepare themselves in it."""

import logging
import time
from math import prod

import numpy as np

from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array, Model, Signature, TensorSpec

PRIMING_SECONDS = 10.0
"""How long the priming of all signatures may take."""
_PRIMING_BYTES = 64 << 20
"""An input larger than this is not made up."""

logger = logging.getLogger("pyserving.platforms")


def prime(model: Model, signature: Signature, deadline: float) -> None:
    """Runs a signature once, on zeros, if it is stateless. Whether it can compute anything from zeros does not matter.

    ``deadline`` is on the clock of ``time.monotonic``.
    """
    if not signature.stateless:
        return
    inputs: dict[str, Array] = dict(signature.defaults)
    for name, spec in signature.inputs.items():
        if name not in inputs:
            zeros = _zeros(spec)
            if zeros is None:
                return
            inputs[name] = zeros
    left = deadline - time.monotonic()
    if left > 0:
        # One that surely ends needs no time-out, and then can step back behind the requests.
        timeout = None if signature.steady else left
        try:
            model.run(signature, inputs, tuple(signature.outputs), timeout=timeout)
        except ServingError as error:
            logger.debug("priming of signature %s ended with %s", signature.name, error)


def _zeros(spec: TensorSpec) -> Array | None:
    """The smallest array that fits: sizes that are not known are 1. None where it would be large."""
    numpy_dtype = NUMPY_OF.get(spec.dtype)
    shape = [1 if size is None else size for size in (spec.shape if spec.shape is not None else (1,))]
    if numpy_dtype is None or prod(shape) * numpy_dtype.itemsize > _PRIMING_BYTES:
        return None
    return np.full(shape, b"", object) if spec.dtype is DType.STRING else np.zeros(shape, numpy_dtype)
