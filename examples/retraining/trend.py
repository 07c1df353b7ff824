"""A linear model, a batch of data, and how a version is written: whole, or not at all."""

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

WEIGHTS = np.array([[2.0], [-1.0], [0.5]], np.float32)


class Trend(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.zeros([3, 1]))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(x, self.weights)}


def batch(seed: int, rows: int = 64) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    return x, x @ WEIGHTS


def export(model: Trend, models: Path, version: int) -> None:
    """Beside its place first, then renamed: the server sees all of it or nothing."""
    folder = models / "trend"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as scratch:
        whole = Path(scratch, "model")
        tf.saved_model.save(model, str(whole), signatures=model.predict)
        whole.rename(folder / str(version))
