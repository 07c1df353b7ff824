"""Asks for messages that the model has not seen:  python client.py ADDRESS"""

import sys

import numpy as np
from messages import make_messages

from pyserving import Client

texts, labels = make_messages(200, seed=2)
with Client(sys.argv[1]) as client:
    answer = client.predict("spam", {"text": texts}, signature="predict_spam")
    right = (answer["label"] == b"spam") == np.array(labels, bool)
    print(f"{right.mean():.0%} of {len(texts)} messages are told rightly")
    for classes in client.classify("spam", [{"text": texts[0]}, {"text": texts[1]}]):
        print(max(classes, key=lambda one: one.score).label)
