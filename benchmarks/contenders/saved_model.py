"""What the servers of other libraries compute with: a SavedModel by TensorFlow's own package, as its guide shows.

Runs in the contenders' environments: nothing of PyServing may be imported here.
"""

import base64
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import tensorflow as tf


class SavedModel:
    """One model's ``serving_default``, which has one input and one output."""

    def __init__(self, folder: Path) -> None:
        self._loaded = tf.saved_model.load(str(folder / "1"))  # to be kept: the signature refers to it weakly
        self._predict = self._loaded.signatures["serving_default"]
        ((self.input_name, self._spec),) = self._predict.structured_input_signature[1].items()

    def __call__(self, array: Any) -> Any:
        """Instances, as a list or an array with the batch first, to a numpy array."""
        (output,) = self._predict(**{self.input_name: tf.constant(array, self._spec.dtype)}).values()
        return output.numpy()

    def predict(self, instances: list[Any]) -> list[Any]:
        """JSON values to JSON values, with ``{"b64": ...}`` for bytes as in TensorFlow Serving's REST API."""
        return to_json(self(from_json(instances)))


def from_json(instances: list[Any]) -> list[Any]:
    if isinstance(instances[0], dict):
        return [base64.b64decode(instance["b64"]) for instance in instances]
    return instances


def to_json(output: Any) -> list[Any]:
    values: list[Any] = output.tolist()
    return [value.decode() for value in values] if output.dtype == object else values


def load_all() -> dict[str, SavedModel]:
    """The models that the runner names in the environment: MODELS=name,name in the folder MODELS_FOLDER."""
    folder = Path(os.environ["MODELS_FOLDER"])
    return {name: SavedModel(folder / name) for name in os.environ["MODELS"].split(",")}
