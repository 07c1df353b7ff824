"""Trains a CNN and writes MODELS/mnist/1:  python export.py MODELS"""

import sys

import keras
from digits import TRAIN

keras.utils.set_random_seed(1)
model = keras.Sequential(
    [
        keras.layers.Input((28, 28, 1), name="image"),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(TRAIN.images, TRAIN.labels, batch_size=64, epochs=3, verbose=0)
model.export(f"{sys.argv[1]}/mnist/1", verbose=False)
