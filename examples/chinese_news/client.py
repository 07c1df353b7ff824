"""Cuts words here, and lets the server cut them; both must find the same:  python client.py ADDRESS"""

import logging
import sys
from pathlib import Path

import jieba
import numpy as np
from headlines import TOPICS, make_headlines

from pyserving import Client

LENGTH = 12

jieba.setLogLevel(logging.WARNING)
vocabulary = Path("models/news_text/1/vocabulary.txt").read_text(encoding="utf-8").split("\n")
number = {word: position for position, word in enumerate(vocabulary, start=1)}
texts, labels = make_headlines(100, seed=2)
numbers = np.zeros((len(texts), LENGTH), np.int64)
for row, text in zip(numbers, texts, strict=True):
    known = [number[word] for word in jieba.cut(text) if word in number][:LENGTH]
    row[: len(known)] = known

with Client(sys.argv[1]) as client:
    cut_here = client.predict("news", numbers)["output_0"].argmax(axis=1)
    cut_there = client.predict("news_text", texts)["topic"]
same = [TOPICS[here] == there.decode() for here, there in zip(cut_here, cut_there, strict=True)]
print(f"{np.mean(cut_here == labels):.0%} right, {np.mean(same):.0%} the same from both")
