"""Writes MODELS/half_plus_two/1:  python export.py MODELS"""

import sys

import tensorflow as tf


class HalfPlusTwo(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = tf.Variable(0.5)
        self.b = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.a * x + self.b}


module = HalfPlusTwo()
tf.saved_model.save(module, f"{sys.argv[1]}/half_plus_two/1", signatures=module.predict)
