"""PyServing: a model server that takes the place of TensorFlow Serving."""

__version__ = "0.1.0"
