"""Builds small ONNX models for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pyserving.platforms.model import Array  # noqa: E402
from pyserving.platforms.onnx.model import OnnxModel  # noqa: E402

Values = Mapping[str, tuple[int, Sequence[int | str | None]]]
FLOAT = TensorProto.FLOAT


def build(
    nodes: Sequence[Any], inputs: Values, outputs: Values, weights: Mapping[str, Array] | None = None, opset: int = 17
) -> Any:
    """A model, checked by no one."""

    def infos(values: Values) -> list[Any]:
        return [helper.make_tensor_value_info(name, *of) for name, of in values.items()]

    made = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", infos(inputs), infos(outputs), initializer=made)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def save(folder: Path, model: Any) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return str(folder)


def linear() -> Any:
    """y = x @ [[2], [3]] + 1"""
    weights = {"w": np.array([[2.0], [3.0]], np.float32), "b": np.array([1.0], np.float32)}
    return build([node("Gemm", "x w b", "y")], {"x": (FLOAT, ["N", 2])}, {"y": (FLOAT, ["N", 1])}, weights)


def counting() -> Any:
    """Adds 1 to ``start`` ``steps`` times, in a loop."""
    one = numpy_helper.from_array(np.array(1.0, np.float32), "one")
    body = helper.make_graph(
        [node("Identity", "go", "go_on"), node("Add", "v one", "v_next")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_next", FLOAT, []),
        ],
        initializer=[one],
    )
    loop = helper.make_node("Loop", ["steps", "", "start"], ["end"], body=body)
    return build([loop], {"steps": (TensorProto.INT64, []), "start": (FLOAT, [])}, {"end": (FLOAT, [])})


def run(model: OnnxModel, timeout: float | None = None, /, **inputs: Any) -> dict[str, Array]:
    """All outputs, by name."""
    (signature,) = model.signatures.values()
    names = tuple(signature.outputs)
    return dict(zip(names, model.run(signature, inputs, names, timeout=timeout), strict=True))
