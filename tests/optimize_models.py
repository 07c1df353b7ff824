"""Builds the SavedModel that ``pyserving optimize`` is tried on, with TensorFlow:  python optimize_models.py FOLDER

Run as models.py is. A convolution that takes long enough to be worth another engine: once for pictures of one size,
once for any size.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf
from models import save, signature

CHANNELS, FILTERS = 8, 64


def main(root: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((3, 3, CHANNELS, FILTERS)).astype(np.float32) / 8

    def features(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, weights, 1, "SAME")), [1, 2])}

    shapes = {"serving_default": [None, 64, 64, CHANNELS], "any_size": [None, None, None, CHANNELS]}
    signatures = {name: signature([("x", shape, tf.float32)], features) for name, shape in shapes.items()}
    save(root / "pictures", "1", signatures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
