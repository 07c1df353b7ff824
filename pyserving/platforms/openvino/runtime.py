"""Finds OpenVINO. It is the only place that knows the package by name."""

import importlib
import sys
from functools import cache
from typing import Any

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.package import is_package_installed


def is_installed() -> bool:
    """Whether there is the package. It is not imported."""
    return is_package_installed("openvino")


def openvino() -> Any:
    """The package. Raises FAILED_PRECONDITION where it is not installed."""
    # Else it would report to its makers each model that it reads, from a process forked for that: a server tells nobody
    # what it serves, and must not be forked once TensorFlow runs in it. Where this module is missing, it does neither.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"OpenVINO is not installed: pip install 'pyserving[openvino]' ({error})",
        ) from None


@cache
def core() -> Any:
    """The process's one ``openvino.Core``, which may be used from any thread."""
    return openvino().Core()


def message(error: Exception) -> str:
    """What OpenVINO says went wrong, without where in its own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Summary:" in lines:
        lines = lines[lines.index("Summary:") + 1 :]
    else:
        lines = [line for line in lines if not line.startswith(("Exception from ", "Check '"))] or lines
    kept = [line.removeprefix("-- ") for line in lines if not line.startswith("To facilitate the conversion")]
    return "; ".join(kept) or type(error).__name__
