"""PyServing: a model server that takes the place of TensorFlow Serving."""

from pyserving.authoring import InvalidInput, Model, ModelClient, Models, Tensor, signature

__all__ = ["InvalidInput", "Model", "ModelClient", "Models", "Tensor", "signature"]
__version__ = "0.1.0"
