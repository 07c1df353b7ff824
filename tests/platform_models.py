"""One small model for each platform that is a file format: y of shape [n, 2] from x of shape [n, 3]."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

W = (np.arange(6, dtype=np.float32).reshape(3, 2) - 3) / 4


def tensorflow(folder: Path, saved_models: Path, _: Path) -> None:
    shutil.copytree(saved_models / "linear" / "1", folder)


openvino_saved_model = tensorflow


def tflite(folder: Path, _: Path, tflite_models: Path) -> None:
    shutil.copytree(tflite_models / "linear" / "1", folder)


def onnx(folder: Path, *_: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        initializer=[numpy_helper.from_array(W, "w")],
    )
    folder.mkdir(parents=True)
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    (folder / "model.onnx").write_bytes(made.SerializeToString())


def openvino(folder: Path, saved_models: Path, _: Path) -> None:
    import openvino

    folder.mkdir(parents=True)
    model = openvino.Core().read_model(saved_models / "linear" / "1")
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


BUILDERS: dict[str, tuple[Callable[[Path, Path, Path], None], str]] = {
    "tensorflow": (tensorflow, "tensorflow"),
    "tflite": (tflite, "tensorflow"),
    "onnx": (onnx, "tensorflow"),
    "openvino": (openvino, "tensorflow"),
    "saved_model_by_openvino": (openvino_saved_model, "openvino"),
}
"""By name of model: what writes its version folder, and its ``model_platform``. Most are recognised by their files."""


BIAS = np.array([-0.75, -0.5], np.float32)


def expected(name: str, x: np.ndarray) -> np.ndarray:
    """What the model of that name answers; those made from the SavedModel add a bias."""
    return x @ W if name in ("tflite", "onnx") else x @ W + BIAS
