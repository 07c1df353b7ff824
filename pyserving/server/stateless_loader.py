"""Refuses models whose answers depend on earlier requests, where these go to several processes."""

from pyserving.core.errors import Code, ServingError
from pyserving.core.loader import Loader
from pyserving.core.resources import Resources
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Model


class StatelessLoader:
    """A ``Loader`` that loads by another one, and fails with FAILED_PRECONDITION if the model writes state."""

    def __init__(self, loader: Loader, servable: ServableId, each: str = "worker") -> None:
        """``each``: what there are several of."""
        self._each = each
        self._loader = loader
        self._id = servable

    def estimate_resources(self) -> Resources:
        return self._loader.estimate_resources()

    def load(self) -> Model:
        model: Model = self._loader.load()  # type: ignore[assignment]  # core has no type for it
        writers = sorted(name for name, signature in model.signatures.items() if signature.writes_state)
        if writers:
            self._loader.unload()
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"Servable {self._id} cannot be served by several {self._each}s: running {', '.join(writers)} changes "
                f"variables or tables of the model, and each {self._each} has its own. Serve it with one {self._each}",
            )
        return model

    def unload(self) -> None:
        self._loader.unload()
