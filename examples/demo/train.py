"""Trains and exports what the demo serves, in a process of its own, as training does: only this needs TensorFlow.

python train.py half_plus_two FOLDER          writes FOLDER/half_plus_two/1
python train.py digits FOLDER VERSION EPOCHS  writes FOLDER/digits/VERSION, a CNN trained for so many epochs
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import tensorflow as tf
from digits import load_digits


def export(folder: Path, version: int, save: Callable[[str], None]) -> Path:
    """Writes ``folder/version`` as a whole: beside its place first, then renamed, so that nobody sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as scratch:
        path = Path(scratch, "model")
        save(str(path))
        path.rename(folder / str(version))
    return folder / str(version)


class HalfPlusTwo(tf.Module):
    """The hello world of TensorFlow Serving: x / 2 + 2."""

    def __init__(self) -> None:
        super().__init__()
        self.a = tf.Variable(0.5)
        self.b = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.a * x + self.b}


def half_plus_two(folder: str) -> None:
    module = HalfPlusTwo()
    print(export(Path(folder, "half_plus_two"), 1, lambda path: tf.saved_model.save(module, path, module.predict)))


def digits(folder: str, version: str, epochs: str) -> None:
    keras.utils.set_random_seed(1)
    train, _ = load_digits()
    model = keras.Sequential(
        [
            keras.layers.Input((28, 28, 1), name="image"),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(train.images, train.labels, batch_size=64, epochs=int(epochs), verbose=0)
    print(export(Path(folder, "digits"), int(version), lambda path: model.export(path, verbose=False)))


if __name__ == "__main__":
    {"half_plus_two": half_plus_two, "digits": digits}[sys.argv[1]](*sys.argv[2:])
