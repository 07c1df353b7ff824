"""Models that answer y = 2 x + version, in plain Python."""

from pathlib import Path

_SOURCE = """
import time
import numpy as np
from pyserving import Model, Tensor

class Linear(Model):
    def predict(self, x: Tensor[np.float32, None]) -> {{"y": Tensor[np.float32, None]}}:
        time.sleep({seconds})
        return {{"y": x * 2 + {version}}}
"""


def write_linear(base: Path, version: int, *, seconds: float = 0.0, source: str = _SOURCE) -> None:
    """Puts a version in place as a whole."""
    folder = base.parent / f"{base.name}-{version}.new"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(source.format(seconds=seconds, version=version))
    base.mkdir(exist_ok=True)
    folder.rename(base / str(version))
