"""What pages find in their folder before their first block: ``models/half_plus_two/1``, and what a page has besides."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOOD, BAD = ["好", "喜欢"], ["差", "失望"]


def half_plus_two(models_folder: Path, folder: Path) -> None:
    """TensorFlow Serving's own test model, which can predict, regress and classify."""
    shutil.copytree(models_folder / "half_plus_two" / "00000123", folder / "models" / "half_plus_two" / "1")


def python_servables(folder: Path) -> None:
    """The models that those of the page ask, what they read, and a picture."""
    for needed in ("onnx", "onnxruntime", "jieba", "PIL.Image"):
        pytest.importorskip(needed)
    _save_sentiment(folder / "models" / "sentiment" / "1")
    _save_mean_colour(folder / "models" / "mean_colour" / "1")
    words = folder / "models" / "reviews" / "1" / "vocabulary.txt"
    words.parent.mkdir(parents=True)
    words.write_text(" ".join(GOOD + BAD), encoding="utf-8")
    import PIL.Image

    PIL.Image.new("RGB", (40, 30), (255, 0, 51)).save(folder / "flower.png")


def demo_models(folder: Path) -> None:
    """Where ``make demo`` leaves them."""
    (folder / "demo-models").symlink_to(folder / "models")


PREPARED: dict[str, Callable[[Path], None]] = {"README.md": demo_models, "python-servables.md": python_servables}
"""By page."""


def _save_onnx(folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]) -> None:
    import onnx

    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")


def _save_sentiment(folder: Path) -> None:
    """Sums what each word says for the one side and the other."""
    import onnx

    weights = np.array([[0, 0], *[[0, 1]] * len(GOOD), *[[1, 0]] * len(BAD)], np.float32)
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    _save_onnx(
        folder,
        [make("Gather", ["weights", "words"], ["found"]), make("ReduceSum", ["found", "axes"], ["scores"], keepdims=0)],
        [info("words", onnx.TensorProto.INT64, ["n", 8])],
        [info("scores", onnx.TensorProto.FLOAT, ["n", 2])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )


def _save_mean_colour(folder: Path) -> None:
    import onnx

    info = onnx.helper.make_tensor_value_info
    _save_onnx(
        folder,
        [onnx.helper.make_node("ReduceMean", ["pixels"], ["colour"], axes=[1, 2], keepdims=0)],
        [info("pixels", onnx.TensorProto.FLOAT, ["n", 8, 8, 3])],
        [info("colour", onnx.TensorProto.FLOAT, ["n", 3])],
        [],
    )
