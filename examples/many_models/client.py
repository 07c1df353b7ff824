"""Asks by version, by label, and as 400 users who name neither:  python client.py HOST:PORT (REST)"""

import sys
from collections import Counter

import requests

from pyserving import Client

with Client(sys.argv[1]) as client:
    print("square    ", client.predict("square", [3.0])["y"])
    print("version 1 ", client.predict("linear", [1.0], version=1)["y"])
    print("stable    ", client.predict("linear", [1.0], label="stable")["y"])
    print("canary    ", client.predict("linear", [1.0], label="canary")["y"])

url = f"http://{sys.argv[1]}/v1/models/linear:predict"
answers: Counter[float] = Counter()
with requests.Session() as session:
    for user in range(400):
        key = {"x-routing-key": f"user-{user}"}
        first, second = (
            session.post(url, json={"instances": [1.0]}, headers=key, timeout=10).json()["predictions"][0]
            for _ in range(2)
        )
        if first != second:
            sys.exit(f"user {user} got different versions")
        answers[first] += 1
print(f"{answers[202.0] / 400:.0%} of 400 users get the canary, each always the same")
