"""PyServing: a model server that takes the place of TensorFlow Serving."""

from typing import TYPE_CHECKING, Any

from pyserving.authoring import InvalidInput, Model, ModelClient, Models, Tensor, signature
from pyserving.core.errors import ServingError

if TYPE_CHECKING:
    from pyserving.client import AsyncClient, Client

__all__ = [
    "AsyncClient",
    "Client",
    "InvalidInput",
    "Model",
    "ModelClient",
    "Models",
    "ServingError",
    "Tensor",
    "signature",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports the clients when they are asked for: who writes a model, or asks for the version, needs none of it."""
    if name in ("AsyncClient", "Client"):
        from pyserving import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
