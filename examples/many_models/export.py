"""Writes three versions of `linear`, and `square`:  python export.py MODELS"""

import sys
from pathlib import Path

import tensorflow as tf

models = Path(sys.argv[1]).absolute()
x = tf.TensorSpec([None], tf.float32, name="x")


def save(name: str, version: int, function: object) -> None:
    tf.saved_model.save(tf.Module(), str(models / name / str(version)), signatures=function)


for version in (1, 2, 3):

    @tf.function(input_signature=[x])
    def linear(x: tf.Tensor, version: int = version) -> dict[str, tf.Tensor]:
        return {"y": 2.0 * x + 100.0 * version}

    save("linear", version, linear)


@tf.function(input_signature=[x])
def square(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": x * x}


save("square", 1, square)
