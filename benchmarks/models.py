"""Exports the models of the workloads, and computes by TensorFlow itself what each workload has to be answered.

    python -m benchmarks.models FOLDER MODEL...

writes ``FOLDER/MODEL/1/``, a SavedModel, and ``FOLDER/MODEL/answers.npz``, an array for each workload's name. A process
of its own, as only this needs the package tensorflow. The networks are untrained: that changes no figure.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.workloads import WORKLOADS

IMAGE = (224, 224, 3)

Save = Callable[[str], None]
"""Writes a SavedModel to a folder."""


def half_plus_two() -> Save:
    """The hello world of TensorFlow Serving: x / 2 + 2."""
    module = tf.Module()
    module.a, module.b = tf.Variable(0.5), tf.Variable(2.0)
    return _with_signature(module, tf.TensorSpec([None], tf.float32, "x"), lambda x: {"y": module.a * x + module.b})


def mnist() -> Save:
    """The usual small CNN for 28×28 digits."""
    model = keras.Sequential(
        [
            keras.layers.Input((28, 28, 1), name="image"),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    return _network(model)


def mobilenet_v2() -> Save:
    return _network(keras.applications.MobileNetV2(weights=None, classifier_activation=None))


def resnet50() -> Save:
    return _network(keras.applications.ResNet50(weights=None, classifier_activation=None))


def image() -> Save:
    """The mean of each channel: what a request with an image costs when the model costs next to nothing."""
    return _with_signature(
        tf.Module(), tf.TensorSpec([None, *IMAGE], tf.float32, "image"), lambda image: {"mean": _means(image)}
    )


def image_bytes() -> Save:
    """The same of the image's float32 values as a string of bytes, the kind of input that JSON writes in base64."""

    def means(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"mean": _means(tf.reshape(tf.io.decode_raw(image, tf.float32), [-1, *IMAGE]))}

    return _with_signature(tf.Module(), tf.TensorSpec([None], tf.string, "image"), means)


def strings() -> Save:
    """Strings in, strings out."""
    return _with_signature(
        tf.Module(), tf.TensorSpec([None], tf.string, "text"), lambda text: {"upper": tf.strings.upper(text, "utf-8")}
    )


def products() -> Save:
    """Little to read and much to compute: matrices made of 512 numbers are multiplied, some 10 ms a row."""

    def traces(x: tf.Tensor) -> dict[str, tf.Tensor]:
        one = x[:, :, None] * x[:, None, :]
        product = one
        for _ in range(4):
            product = tf.tanh(tf.matmul(product, one) / 512.0)
        return {"y": tf.reduce_sum(product, axis=[1, 2])}

    return _with_signature(tf.Module(), tf.TensorSpec([None, 512], tf.float32, "x"), traces)


MODELS: dict[str, Callable[[], Save]] = {
    build.__name__: build
    for build in (half_plus_two, mnist, mobilenet_v2, resnet50, image, image_bytes, strings, products)
}


def _means(image: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(image, axis=[1, 2])


def _network(model: Any) -> Save:
    _normalise(model)
    spec = tf.TensorSpec(model.inputs[0].shape, tf.float32, "image")
    return lambda path: model.export(path, input_signature=[spec], verbose=False)


def _normalise(model: Any) -> None:
    """Gives batch normalisation the statistics of random images: without, an untrained MobileNetV2 answers zeros."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        layer.momentum = 0.0
    if layers:
        model(np.random.default_rng(2).random((8, *model.inputs[0].shape[1:]), np.float32), training=True)


def _with_signature(module: tf.Module, spec: tf.TensorSpec, body: Callable[..., dict[str, tf.Tensor]]) -> Save:
    predict = tf.function(body, input_signature=[spec])
    return lambda path: tf.saved_model.save(module, path, predict)


def export(folder: Path, name: str) -> None:
    """Writes all of a model's folder or, where something fails, nothing."""
    keras.utils.set_random_seed(1)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch, name)
        MODELS[name]()(str(built / "1"))
        predict = tf.saved_model.load(str(built / "1")).signatures["serving_default"]
        answers = {}
        for workload in WORKLOADS.values():
            if workload.model == name:
                (output,) = predict(**{workload.input_name: tf.constant(workload.instances)}).values()
                answers[workload.name] = output.numpy().astype("S" if output.dtype == tf.string else output.dtype.name)
        np.savez(built / "answers.npz", **answers)
        built.rename(folder / name)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for wanted in sys.argv[2:]:
        export(target, wanted)
