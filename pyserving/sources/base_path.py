"""Base paths: what counts as absolute, and where a local one lies."""

import os
import re
from urllib.parse import unquote

from pyserving.core.errors import Code, ServingError

# TensorFlow's own rule for the scheme of a file name; narrower than RFC 3986 (no "+", no "-").
_SCHEME = re.compile(r"([a-zA-Z][0-9a-zA-Z.]*)://")


def is_absolute(base_path: str) -> bool:
    """Whether a base path is an absolute path or a URI."""
    return bool(_SCHEME.match(base_path)) or base_path.startswith("/") or os.path.isabs(base_path)


def local_path(base_path: str) -> str:
    """The path on this machine that a base path names: ``file://`` is taken off.

    Raises ServingError (UNIMPLEMENTED) for any other scheme.
    """
    scheme = _SCHEME.match(base_path)
    if scheme is None:
        return base_path
    if scheme[1].lower() != "file":
        raise ServingError(
            Code.UNIMPLEMENTED, f"File system scheme '{scheme[1]}' not implemented (file: '{base_path}')"
        )
    host, slash, path = base_path[scheme.end() :].partition("/")
    if host not in ("", "localhost"):
        raise ServingError(Code.UNIMPLEMENTED, f"A file URI must name this machine (file:///path); got '{base_path}'")
    return unquote(slash + path)
