"""Builds the SavedModels that OpenVINO is to read, with real TensorFlow:  python openvino_models.py FOLDER

Run by the fixture ``openvino_folder`` in a process of its own, so that no test imports tensorflow. Each model is
NAME/1; where NAME/answers.pickle stands beside it, it has what TensorFlow computed, as (signature, inputs, outputs).
"""

import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf

F = tf.float32
Case = tuple[str, Mapping[str, Any]]


def signature(specs: Sequence[tuple[str, Any, Any]], body: Any) -> Any:
    return tf.function(body, input_signature=[tf.TensorSpec(shape, dtype, name) for name, shape, dtype in specs])


def save(folder: Path, name: str, signatures: dict[str, Any], cases: Sequence[Case] = (), module: Any = None) -> None:
    tf.saved_model.save(module or tf.Module(), str(folder / name / "1"), signatures=signatures)
    answers = [
        (key, inputs, {alias: tensor.numpy() for alias, tensor in signatures[key](**inputs).items()})
        for key, inputs in cases
    ]
    (folder / name / "answers.pickle").write_bytes(pickle.dumps(answers))


def floats(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 3) / 4


def main(folder: Path) -> None:
    linear = tf.Module()
    linear.w, linear.b = tf.Variable(floats(3, 2)), tf.Variable(floats(2))
    save(
        folder,
        "linear",
        {
            "serving_default": signature([("x", [None, 3], F)], lambda x: {"y": x @ linear.w + linear.b}),
            "scaled": signature(
                [("x", [None, 3], F), ("k", [], F)], lambda x, k: {"y": k * x, "total": tf.reduce_sum(x)}
            ),
        },
        [
            *(("serving_default", {"x": floats(rows, 3)}) for rows in (1, 2, 7, 0, 1)),
            ("scaled", {"x": floats(2, 3), "k": np.array(2.5, np.float32)}),
        ],
        linear,
    )

    def names(x: Any, k: Any) -> dict[str, Any]:
        twice = 2 * x
        return {"x": x, "k": x + k, "twice": twice, "again": twice, "z": k, "out:put/1": x - k}

    save(
        folder,
        "names",
        {"serving_default": signature([("x", [None], F), ("k", [None], F)], names)},
        [("serving_default", {"x": floats(4), "k": floats(4) * 10})],
    )

    def numbers(h: Any, i8: Any, u8: Any, i32: Any, b: Any) -> dict[str, Any]:
        return {"h": h * 2, "i8": i8 + 1, "u8": u8 + 1, "i32": i32 // 2, "b": tf.logical_not(b)}

    save(
        folder,
        "numbers",
        {
            "serving_default": signature(
                [
                    ("h", [None], tf.float16),
                    ("i8", [None], tf.int8),
                    ("u8", [None], tf.uint8),
                    ("i32", [None], tf.int32),
                    ("b", [None], tf.bool),
                ],
                numbers,
            ),
            "wide": signature([("x", [None], tf.int64)], lambda x: {"y": x + 1, "f": tf.cast(x, F)}),
        },
        [
            (
                "serving_default",
                {
                    "h": np.array([0.5, 3], np.float16),
                    "i8": np.array([-3, 5], np.int8),
                    "u8": np.array([3, 250], np.uint8),
                    "i32": np.array([-7, 7], np.int32),
                    "b": np.array([True, False]),
                },
            ),
            ("wide", {"x": np.array([-5, 2**31 - 2, -(2**31)])}),
        ],
    )

    def count(n: Any) -> dict[str, Any]:
        return {"y": tf.while_loop(lambda i, _: i < n, lambda i, y: [i + 1, y * 1.5], [0, tf.constant(1.0)])[1]}

    save(
        folder,
        "loop",
        {"serving_default": signature([("n", [], tf.int32)], count)},
        [("serving_default", {"n": np.array(n, np.int32)}) for n in (0, 1, 9)],
    )

    state = tf.Module()
    state.n = tf.Variable(0.0)

    def positive(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_positive(x)]):
            return {"y": tf.sqrt(x)}

    one_float = [("x", [None], F)]
    save(
        folder,
        "partly",
        {
            "serving_default": signature(one_float, lambda x: {"y": x + 1}),
            "counts": signature(one_float, lambda x: {"y": x + state.n.assign_add(1.0)}),
            "wide": signature(
                [("x", [None], tf.int32)], lambda x: {"y": tf.cast(x, tf.int64) * tf.constant(1 << 33, tf.int64)}
            ),
            "constant": signature(one_float, lambda x: {"y": x, "c": tf.constant([1.0])}),
            "text": signature([("x", [None], tf.string)], lambda x: {"y": tf.strings.lower(x)}),
            "any_rank": signature([("x", None, F)], lambda x: {"y": x + 1}),
            "positive": signature(one_float, positive),
            "random": signature(one_float, lambda x: {"y": x + tf.random.uniform(tf.shape(x))}),
        },
        module=state,
    )
    save(folder, "text", {"serving_default": signature([("x", [None], tf.string)], lambda x: {"y": x})})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
