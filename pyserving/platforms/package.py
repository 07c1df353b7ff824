"""Whether an optional package is there, without the time and memory that its import takes."""

import importlib.util


def is_package_installed(name: str) -> bool:
    """``name``: of a top-level package, as it is imported. It is found, not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
