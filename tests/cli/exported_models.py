"""What the tests of ``pyserving export`` export: objects by import path. Only the exporting process imports it."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Times(keras.layers.Layer):
    """Not registered: a file with it needs --custom-object."""

    def __init__(self, by: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.by = by

    def call(self, x: Any) -> Any:
        return x * self.by

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


def _dense(*more: Any) -> Any:
    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2), *more])
    model.layers[0].set_weights([np.arange(6, dtype=np.float32).reshape(3, 2), np.float32([0.5, -0.5])])
    model.compile("adam", "mse")
    return model


def sequential() -> Any:
    """A compiled Keras model; it leaves files of itself in the working directory."""
    model = _dense()
    model.fit(np.zeros((2, 3)), np.tile([0.5, -0.5], (2, 1)), verbose=0)  # the optimizer has state; no weight moves
    model.save("dense.keras")
    model.save("dense.h5")
    _dense(Times(3.0)).save("times.keras")
    return model


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2, kernel_initializer="ones")

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def classify(self, x: Any) -> dict[str, Any]:
        return {"class": tf.argmax(self.dense(x), axis=1), "score": tf.reduce_max(self.dense(x), axis=1)}


class Module(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.by = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def __call__(self, x: Any) -> dict[str, Any]:
        return {"y": self.by * x}

    def plus(self, a: Any, b: Any) -> dict[str, Any]:
        return {"sum": a + b}


@tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
def triple(x: Any) -> dict[str, Any]:
    return {"y": 3.0 * x}


class Nothing(tf.Module):
    pass


number = 7
