"""Asks for each digit by itself, with requests:  python tutorial_rest_client.py HOST:PORT"""

import sys

import requests
from digits import TEST

COUNT = 200

url = f"http://{sys.argv[1]}/v1/models/mnist:predict"
wrong = 0
with requests.Session() as session:
    for image, label in zip(TEST.images[:COUNT], TEST.labels, strict=False):
        answer = session.post(url, json={"instances": [image.tolist()]}, timeout=10)
        answer.raise_for_status()
        scores = answer.json()["predictions"][0]
        wrong += int(scores.index(max(scores)) != label)
print(f"Inference error rate: {wrong / COUNT:.1%}")
