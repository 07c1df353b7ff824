"""What the tests of TensorFlow Lite models share."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyserving.platforms.model import Array
from pyserving.platforms.tflite.model import TFLiteModel


class CallableModel(TFLiteModel):
    """A model that is quick to call."""

    def __call__(self, name: str = "serving_default", /, **inputs: Array) -> dict[str, Array]:
        """Runs the signature of that name; all its outputs, by name."""
        signature = self.signatures[name]
        outputs = tuple(signature.outputs)
        return dict(zip(outputs, self.run(signature, inputs, outputs), strict=True))


LoadTFLite = Callable[..., CallableModel]
VersionWith = Callable[[bytes], str]
Answer = tuple[str, Mapping[str, Array], Mapping[str, Array]]


def answers(folder: Path, name: str) -> list[Answer]:
    """(signature, inputs, outputs) as TensorFlow computed them when the model was built."""
    recorded: Any = pickle.loads((folder / name / "answers.pickle").read_bytes())
    return recorded  # type: ignore[no-any-return]


def floats(*shape: int) -> Array:
    return (np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 3) / 4


def scalar(value: float) -> Array:
    return np.array(value, np.float32)
