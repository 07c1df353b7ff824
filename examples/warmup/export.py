"""Writes MODELS/warm/1:  python export.py MODELS"""

import sys

import tensorflow as tf


@tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
def half_plus_two(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": 0.5 * x + 2.0}


tf.saved_model.save(tf.Module(), f"{sys.argv[1]}/warm/1", signatures=half_plus_two)
