"""Names failed system calls as TensorFlow does."""

import errno

from pyserving.core.errors import Code, ServingError

_CODES = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.ENOTDIR: Code.FAILED_PRECONDITION,
    errno.EISDIR: Code.FAILED_PRECONDITION,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
}


def serving_error(path: str, error: OSError) -> ServingError:
    """Such as ``NOT_FOUND: /models.config; No such file or directory``."""
    return ServingError(_CODES.get(error.errno or 0, Code.UNKNOWN), f"{path}; {error.strerror or error}")
