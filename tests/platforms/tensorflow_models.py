"""What the tests of TensorFlow models share: a model that is quick to call, and short ways to write arrays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyserving.platforms.model import Array
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions


class CallableModel(TensorFlowModel):
    def __init__(self, versions: Path, options: SessionOptions | None = None) -> None:
        """Loads the lowest version in a model's folder."""
        super().__init__(str(min(versions.iterdir())), options or SessionOptions())

    def __call__(
        self, name: str = "serving_default", timeout: float | None = None, inline: bool = False, **inputs: Array
    ) -> dict[str, Array]:
        """Runs the signature of that name; all its outputs, by name."""
        signature = self.signatures[name]
        outputs = tuple(signature.outputs)
        results = self.run(signature, inputs, outputs, timeout=timeout, inline=inline)
        return dict(zip(outputs, results, strict=True))


Load = Callable[[str], CallableModel]
ModelDir = Callable[[str], Path]
RunPython = Callable[..., str]


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def texts(*values: bytes) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array
