"""Trains three more versions while clients ask:  python retrain.py MODELS ADDRESS

The address is that of gRPC, whose answers tell the version.
"""

import sys
import threading
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from trend import Trend, batch, export

from pyserving import Client, ServingError

ROUNDS = 3

models, client = Path(sys.argv[1]), Client(sys.argv[2], retries=0)
x, y = batch(seed=0)
answers: list[int] = []
failures: list[str] = []
stopped = threading.Event()


def keep_asking() -> None:
    while not stopped.is_set():
        try:
            answers.append(client.predict("trend", x).version)
        except ServingError as error:
            failures.append(str(error))


threads = [threading.Thread(target=keep_asking) for _ in range(2)]
for thread in threads:
    thread.start()
try:
    model = Trend()
    for version in range(2, 2 + ROUNDS):
        for step in range(10):
            seen, wanted = batch(seed=100 * version + step)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model.predict(seen)["y"] - wanted) ** 2)
            model.weights.assign_sub(0.1 * tape.gradient(loss, model.weights))
        export(model, models, version)
        while (answer := client.predict("trend", x)).version < version:
            time.sleep(0.02)
        print(f"version {version}: mean error {np.abs(answer['y'] - y).mean():.3f}")
finally:
    stopped.set()
    for thread in threads:
        thread.join()
print(f"{len(failures)} of {len(answers) + len(failures)} requests failed, answered by versions {sorted(set(answers))}")
