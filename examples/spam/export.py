"""Trains an RNN and writes MODELS/spam/1:  python export.py MODELS"""

import sys

import keras
import numpy as np
import tensorflow as tf
from messages import make_messages

keras.utils.set_random_seed(1)
texts, labels = make_messages(800, seed=1)


words = keras.layers.TextVectorization(output_sequence_length=12)
words.adapt(texts)
rnn = keras.Sequential(
    [
        keras.layers.Embedding(words.vocabulary_size(), 8),
        keras.layers.GRU(16),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
)
rnn.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
rnn.fit(words(tf.constant(texts)), np.array(labels), epochs=4, batch_size=32, verbose=0)


def predict_spam(text: tf.Tensor) -> dict[str, tf.Tensor]:
    probability = rnn(words(text))[:, 0]
    return {"probability": probability, "label": tf.where(probability > 0.5, "spam", "ham")}


def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    parsed = tf.io.parse_example(inputs, {"text": tf.io.FixedLenFeature([], tf.string)})
    probability = rnn(words(parsed["text"]))[:, 0]
    classes = tf.tile([["ham", "spam"]], [tf.shape(inputs)[0], 1])
    return {"classes": classes, "scores": tf.stack([1 - probability, probability], axis=1)}


archive = keras.export.ExportArchive()
archive.track(words)
archive.track(rnn)
archive.add_endpoint("predict_spam", predict_spam, [tf.TensorSpec([None], tf.string, name="text")])
archive.add_endpoint("serving_default", classify, [tf.TensorSpec([None], tf.string, name="inputs")])
archive.write_out(f"{sys.argv[1]}/spam/1", verbose=False)
