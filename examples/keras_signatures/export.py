"""Trains on made-up flowers; writes MODELS/flowers/1 and MODELS/flowers_call/1:  python export.py MODELS"""

import sys

import keras
import numpy as np
import tensorflow as tf

keras.utils.set_random_seed(1)
MEANS = np.array([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.0]], np.float32)
labels = np.random.default_rng(1).integers(0, 3, 600)
sizes = MEANS[labels] + np.random.default_rng(2).normal(0, 0.3, (600, 4)).astype(np.float32)


class Flowers(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(16, activation="relu")
        self.scores = keras.layers.Dense(3, activation="softmax")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.scores(self.hidden(inputs))


sequential = keras.Sequential(
    [
        keras.layers.Input((4,), name="size"),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dense(3, activation="softmax"),
    ]
)
subclassed = Flowers()
for model in (sequential, subclassed):
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    model.fit(sizes, labels, epochs=4, verbose=0)

sequential.export(f"{sys.argv[1]}/flowers/1", verbose=False)


@tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="size")])
def call(size: tf.Tensor) -> dict[str, tf.Tensor]:
    scores = subclassed(size)
    return {"species": tf.argmax(scores, axis=1), "scores": scores}


module = tf.Module()
module.parts = [variable.value for variable in subclassed.variables]  # what is saved beside the function
tf.saved_model.save(module, f"{sys.argv[1]}/flowers_call/1", signatures={"call": call})
