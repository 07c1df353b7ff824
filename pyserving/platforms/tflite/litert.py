"""Finds LiteRT. It is the only place that knows the package by name."""

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.package import is_package_installed


@dataclass(frozen=True, slots=True)
class LiteRT:
    """The parts of ``ai_edge_litert`` that are used."""

    interpreter: Any
    """The module with the interpreter."""
    schema: Any
    """The module that reads the tables of a .tflite file."""
    flexbuffers: Any
    """The module that reads the map of signatures in such a file's metadata."""


def is_installed() -> bool:
    """Whether there is the package. It is not imported."""
    return is_package_installed("ai_edge_litert")


@cache
def litert() -> LiteRT:
    """Raises FAILED_PRECONDITION where LiteRT is not installed."""
    try:
        return LiteRT(
            importlib.import_module("ai_edge_litert.interpreter"),
            importlib.import_module("ai_edge_litert.schema_py_generated"),
            importlib.import_module("flatbuffers.flexbuffers"),
        )
    except ImportError as error:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"TensorFlow Lite models need LiteRT: pip install 'pyserving[tflite]' ({error})",
        ) from None
