"""What clients compute with, and how it is named."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, order=True)
class ServableId:
    """One version of one named servable."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


@dataclass(frozen=True, slots=True)
class ServableRequest:
    """Asks for a version of a stream: a specific one, or with None the latest."""

    name: str
    version: int | None = None

    def __str__(self) -> str:
        return f"Latest({self.name})" if self.version is None else f"Specific({self.name}, {self.version})"


class Servable(Protocol):
    """What a Loader hands over once it is loaded: a model, a table, a function.

    It does not manage its own life: the Loader that made it also takes it apart.
    """
