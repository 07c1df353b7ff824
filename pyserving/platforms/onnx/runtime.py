"""Finds ONNX Runtime. It is the only place that knows the package by name."""

import importlib
from typing import Any

from pyserving.core.errors import Code, ServingError


def onnxruntime() -> Any:
    """The package. Raises FAILED_PRECONDITION where it is not installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ServingError(
            Code.FAILED_PRECONDITION, f"ONNX models need ONNX Runtime: pip install 'pyserving[onnx]' ({error})"
        ) from None
