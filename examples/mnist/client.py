"""Asks for each digit by itself, with pyserving.Client:  python client.py ADDRESS"""

import sys

from digits import TEST

from pyserving import Client

COUNT = 200

wrong = 0
with Client(sys.argv[1]) as client:
    for image, label in zip(TEST.images[:COUNT], TEST.labels, strict=False):
        scores = client.predict("mnist", image[None])["output_0"]
        wrong += int(scores.argmax() != label)
print(f"Inference error rate: {wrong / COUNT:.1%}")
