"""Builds SavedModels for other engines to take over, or not:  python acceleration_models.py FOLDER

``cnn`` is worth it. Each signature of ``ops`` is a few operations. ``state`` is of what stays on TensorFlow. Run as
models.py is.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import tensorflow as tf
from keras import layers
from models import save, signature

F, INT = tf.float32, tf.int32
MATRIX = [("x", [None, 64], F)]
IDS = [("x", [None, 8], INT)]

OPS: dict[str, tuple[list[tuple[str, Any, Any]], Callable[..., Any]]] = {
    "softmax": (MATRIX, tf.nn.softmax),
    "argmax": (MATRIX, lambda x: tf.argmax(x, axis=1)),
    "scaled": ([("x", [None, 64], F), ("by", [None, 1], F)], lambda x, by: x * by),
    "largest_integer": (IDS, lambda x: tf.reduce_max(x, axis=1)),
    "divided": (IDS, lambda x: 1000 // (x - 500)),
    "divided_by_3": (IDS, lambda x: x // 3),
    "embedded": (IDS, lambda x: tf.gather(tf.reshape(tf.range(100.0), [50, 2]), x)),
    "cubic": ([("x", [None, 8, 8, 1], F)], lambda x: tf.image.resize(x, [5, 5], method="bicubic")),
}


def answering(body: Callable[..., Any], specs: list[tuple[str, Any, Any]]) -> Callable[..., dict[str, Any]]:
    # tf.function looks at the names of arguments.
    arguments = ", ".join(spec[0] for spec in specs)
    answer: Callable[..., dict[str, Any]] = eval(f"lambda {arguments}: {{'out': body({arguments})}}", {"body": body})
    return answer


def ops(folder: Path) -> None:
    save(folder, "1", {name: signature(specs, answering(body, specs)) for name, (specs, body) in OPS.items()})


def cnn(folder: Path) -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            *(layers.Conv2D(width, 3, activation="relu") for width in (8, 16, 16)),
            layers.DepthwiseConv2D(3, activation="relu"),
            layers.Conv2D(16, 1, activation="relu"),
            layers.DepthwiseConv2D(3, activation="relu"),
            layers.Conv2D(16, 1, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    model.export(str(folder / "1"), verbose=False)


def state(folder: Path) -> None:
    module = tf.Module()
    module.count = tf.Variable(0.0)
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64)), -1
    )
    signatures = {
        "counts": signature(MATRIX, lambda x: {"out": x + module.count.assign_add(1.0)}),
        "random": signature(MATRIX, lambda x: {"out": x + tf.random.normal(tf.shape(x))}),
        "text": signature([("x", [None], tf.string)], lambda x: {"out": tf.strings.upper(x)}),
        "looked_up": signature([("x", [None], tf.string)], lambda x: {"out": module.table.lookup(x)}),
        "looped": signature(
            MATRIX, lambda x: {"out": tf.while_loop(lambda y: tf.reduce_max(y) < 9.0, lambda y: y + 1.0, [x])[0]}
        ),
        "asserted": signature(MATRIX, lambda x: {"out": _asserted(x)}),
    }
    save(folder, "1", signatures, module)


def _asserted(x: Any) -> Any:
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_sum(x) >= 0, [x])]):
        return tf.nn.softmax(x)


def main(root: Path) -> None:
    for build in (ops, cnn, state):
        build(root / build.__name__)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
