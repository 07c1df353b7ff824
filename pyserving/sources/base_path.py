"""Base paths: what counts as absolute, and where a local one lies."""

import importlib.util
import os
import re
from urllib.parse import unquote

from pyserving.core.errors import Code, ServingError

# TensorFlow's own rule for the scheme of a file name; narrower than RFC 3986 (no "+", no "-").
_SCHEME = re.compile(r"([a-zA-Z][0-9a-zA-Z.]*)://")

_OBJECT_STORES = {
    "s3": ("s3", "s3fs"),
    "gs": ("gcs", "gcsfs"),
    "az": ("azure", "adlfs"),
    "abfs": ("azure", "adlfs"),
    "http": ("http", "aiohttp"),
    "https": ("http", "aiohttp"),
}
"""By scheme: the extra of this package that brings what reads it, and the module that must be there then."""


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


def is_object_store(base_path: str) -> bool:
    """Whether a base path lies in an object store, or on a web server."""
    scheme = _SCHEME.match(base_path)
    return scheme is not None and scheme[1].lower() in _OBJECT_STORES


def check_readable(base_path: str) -> None:
    """Raises FAILED_PRECONDITION if a base path lies in an object store and what reads it is not installed."""
    scheme = _SCHEME.match(base_path)
    if scheme is None or scheme[1].lower() not in _OBJECT_STORES:
        return
    extra, module = _OBJECT_STORES[scheme[1].lower()]
    if any(importlib.util.find_spec(name) is None for name in ("fsspec", module)):
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"Base path {base_path} needs the package {module}, which is not installed: "
            f"pip install 'pyserving[{extra}]'",
        )
