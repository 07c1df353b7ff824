"""Libraries of operations that TensorFlow itself does not have."""

import logging
import os
from collections.abc import Iterable

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.tensorflow.library import TensorFlow, tensorflow
from pyserving.platforms.tensorflow.status import Status

logger = logging.getLogger("pyserving.tensorflow")


def load_op_libraries(paths: Iterable[str]) -> None:
    """Makes their operations known to every model that is loaded from now on; they stay until the process ends.

    Raises ServingError, which names the library: NOT_FOUND for a missing file, INVALID_ARGUMENT for one that is no
    library of operations for the TensorFlow installed.
    """
    for path in dict.fromkeys(map(os.path.abspath, paths)):
        if not os.path.exists(path):
            raise ServingError(Code.NOT_FOUND, f"Op library {path}: no such file")
        _load(tensorflow(), path)
        logger.info("Loaded op library %s", path)


def _load(tf: TensorFlow, path: str) -> None:
    with Status(tf) as status:
        kernels = _kernels(tf, status)
        library = tf.load_library(os.fsencode(path), status.address)
        try:
            status.check()
        except ServingError as error:
            raise invalid_argument(
                f"Op library {path} cannot be loaded into TensorFlow {tf.version}, for which it has to be built: "
                f"{error.message}"
            ) from None
        # A library may bring nothing but kernels, for operations that are known.
        if not tf.get_op_list(library).length and _kernels(tf, status) == kernels:
            raise invalid_argument(f"Op library {path} has neither operations nor kernels for TensorFlow {tf.version}")


def _kernels(tf: TensorFlow, status: Status) -> int:
    """Grows with each kernel that is registered."""
    buffer = tf.get_all_kernels(status.address)
    status.check()
    length: int = buffer.contents.length
    tf.delete_buffer(buffer)
    return length
