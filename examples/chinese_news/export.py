"""Trains and writes MODELS/news/1, and beside it MODELS/news_text/1:  python export.py MODELS"""

import logging
import shutil
import sys
from pathlib import Path

import jieba
import keras
import numpy as np
from headlines import TOPICS, make_headlines

LENGTH = 12

jieba.setLogLevel(logging.WARNING)
keras.utils.set_random_seed(1)
texts, labels = make_headlines(600, seed=1)
cut = [jieba.lcut(text) for text in texts]
vocabulary = sorted({word for words in cut for word in words})
number = {word: position for position, word in enumerate(vocabulary, start=1)}
numbers = np.zeros((len(cut), LENGTH), np.int64)
for row, words in zip(numbers, cut, strict=True):
    row[: len(words)] = [number[word] for word in words][:LENGTH]

model = keras.Sequential(
    [
        keras.layers.Input((LENGTH,), dtype="int64", name="words"),
        keras.layers.Embedding(len(vocabulary) + 1, 16),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(len(TOPICS), activation="softmax"),
    ]
)
model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
model.fit(numbers, np.array(labels), epochs=6, verbose=0)

models = Path(sys.argv[1])
model.export(str(models / "news/1"), verbose=False)
in_server = models / "news_text/1"
in_server.mkdir(parents=True)
shutil.copy("news_text.py", in_server / "model.py")
(in_server / "vocabulary.txt").write_text("\n".join(vocabulary), encoding="utf-8")
