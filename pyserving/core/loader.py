"""Brings one servable version into memory and takes it out again."""

from typing import Protocol

from pyserving.core.resources import Resources
from pyserving.core.servable import Servable


class Loader(Protocol):
    """Knows how to load, unload and estimate the resources of one ServableId.

    The Manager calls these methods from its own threads, never two at once for one loader.
    """

    def estimate_resources(self) -> Resources:
        """What the servable will need at most while it is loaded. Raises ServingError."""
        ...

    def load(self) -> Servable:
        """Loads, and returns the servable, ready to compute. Raises ServingError; may be called again after that."""
        ...

    def unload(self) -> None:
        """Gives back everything that load() took. Called once, when no handle is left."""
        ...
