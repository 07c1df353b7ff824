"""A Python servable: cuts words in the server, and asks `news`. In the version folder it is called model.py."""

from typing import TypedDict

import jieba
import numpy as np

from pyserving import InvalidInput, Model, Tensor

LENGTH = 12
TOPICS = np.array(["体育", "财经", "科技", "娱乐"])


class Found(TypedDict):
    topic: Tensor[str, None]
    score: Tensor[np.float32, None]


class NewsText(Model):
    def load(self, folder):
        words = (folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
        self.number = {word: number for number, word in enumerate(words, start=1)}
        jieba.initialize()

    def predict(self, text: Tensor[str, None]) -> Found:
        if any(not one.strip() for one in text):
            raise InvalidInput("text must not be empty")
        numbers = np.zeros((len(text), LENGTH), np.int64)
        for row, one in zip(numbers, text, strict=True):
            known = [self.number[word] for word in jieba.cut(one) if word in self.number][:LENGTH]
            row[: len(known)] = known
        scores = self.models["news"].predict(words=numbers)["output_0"]
        return {"topic": TOPICS[scores.argmax(axis=1)], "score": scores.max(axis=1)}
