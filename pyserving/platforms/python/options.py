"""What the operator says of Python servables."""

from dataclasses import dataclass
from enum import Enum


class PythonModels(Enum):
    """Whether the code in version folders is run."""

    OFF = "off"
    """A model.py does not load: who can write to a model folder cannot run code on the server."""
    ON = "on"
    """Each where its class says: on threads of the server, or in a process of its own."""
    PROCESS = "process"
    """Each in a process of its own."""


@dataclass(frozen=True, slots=True)
class PythonOptions:
    models: PythonModels = PythonModels.OFF
