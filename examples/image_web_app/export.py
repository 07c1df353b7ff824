"""Trains on shapes that it draws:  python export.py FOLDER

Writes the SavedModel FOLDER, and beside it triangle.png and a warmup request with that picture.
"""

import base64
import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

SIZE = 32
NAMES = ["circle", "square", "triangle"]

keras.utils.set_random_seed(1)
chance = np.random.default_rng(1)


def draw(shape: int) -> np.ndarray:
    """One shape somewhere, in one colour on another: [32, 32, 3] float32, 0 to 255."""
    radius = chance.uniform(6, 12)
    x, y = (np.mgrid[:SIZE, :SIZE] - chance.uniform(13, 19, 2)[:, None, None]) / radius
    inside = [x**2 + y**2 < 1, np.maximum(abs(x), abs(y)) < 0.9, (x < 0.8) & (x > 2 * abs(y) - 1)][shape]
    dark, light = chance.uniform(0, 100, 3), chance.uniform(150, 255, 3)
    colours = (dark, light) if chance.random() < 0.5 else (light, dark)
    return np.where(inside[:, :, None], *colours).astype(np.float32)


labels = chance.integers(0, 3, 900)
pictures = np.stack([draw(label) for label in labels])
network = keras.Sequential(
    [
        keras.layers.Input((SIZE, SIZE, 3)),
        keras.layers.Rescaling(1 / 127.5, -1),
        keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
        keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(3, activation="softmax"),
    ]
)
network.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
network.fit(pictures, labels, epochs=8, verbose=0)


def predict(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
    def decode(data: tf.Tensor) -> tf.Tensor:
        picture = tf.io.decode_image(data, channels=3, expand_animations=False)
        return tf.image.resize(picture, [SIZE, SIZE])

    pixels = tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec([SIZE, SIZE, 3], tf.float32))
    scores = network(pixels)
    return {"label": tf.gather(NAMES, tf.argmax(scores, axis=1)), "score": tf.reduce_max(scores, axis=1)}


archive = keras.export.ExportArchive()
archive.track(network)
archive.add_endpoint("serving_default", predict, [tf.TensorSpec([None], tf.string, name="image_bytes")])
archive.write_out(sys.argv[1], verbose=False)
triangle = tf.io.encode_png(draw(2).astype(np.uint8)).numpy()
Path("triangle.png").write_bytes(triangle)
Path("warmup.jsonl").write_text(json.dumps({"instances": [{"b64": base64.b64encode(triangle).decode()}]}))
