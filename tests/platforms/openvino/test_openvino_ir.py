"""OpenVINO's own files, as its own library writes them."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.model import Array
from pyserving.platforms.openvino.model import OpenVinoModel

ov = pytest.importorskip("openvino")

from openvino import opset13 as op  # noqa: E402
from openvino.op import util  # noqa: E402


def save(folder: Path, outputs: list[Any], inputs: list[Any], sinks: list[Any] | None = None) -> str:
    folder.mkdir(exist_ok=True)
    model = ov.Model(outputs, sinks, inputs, "m") if sinks else ov.Model(outputs, inputs, "m")
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return str(folder)


def parameter(name: str, shape: list[int], dtype: Any = ov.Type.f32) -> Any:
    made = op.parameter(shape, dtype, name=name)
    made.output(0).get_tensor().set_names({name})
    return made


def named(node: Any, *names: str) -> Any:
    node.output(0).get_tensor().set_names(set(names))
    return node


def linear(folder: Path) -> str:
    """y = x @ [[2], [3]] + 1"""
    x = parameter("x", [-1, 2])
    product = op.matmul(x, op.constant(np.array([[2], [3]], np.float32)), False, False)
    return save(folder, [named(op.add(product, op.constant(np.float32(1))), "y", "StatefulPartitionedCall:0")], [x])


def run(model: OpenVinoModel, **inputs: Array) -> dict[str, Array]:
    (signature,) = model.signatures.values()
    outputs = tuple(signature.outputs)
    return dict(zip(outputs, model.run(signature, inputs, outputs), strict=True))


def load(folder: str) -> OpenVinoModel:
    return OpenVinoModel(folder, ("serve",), 0)


def test_a_model_computes_and_shows_its_signature(tmp_path: Path) -> None:
    model = load(linear(tmp_path))
    assert run(model, x=np.array([[1, 1], [0, 2]], np.float32))["y"].tolist() == [[6], [7]]
    signature = model.signatures["serving_default"]
    assert (signature.stateless, signature.steady, signature.row_wise) == (True, True, False)
    shown = model.signature_defs["serving_default"]
    assert shown.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in shown.outputs["y"].tensor_shape.dim] == [-1, 1]


def test_tensors_without_names_are_called_after_their_operations(tmp_path: Path) -> None:
    x = op.parameter([2], ov.Type.f32, name="in")
    model = load(save(tmp_path, [op.negative(x, name="out")], [x]))
    assert run(model, **{"in": np.array([1, 2], np.float32)})["out"].tolist() == [-1, -2]


def test_float32_is_computed_in_float32(tmp_path: Path) -> None:
    x = parameter("x", [-1, 64])
    w = np.random.default_rng(1).standard_normal((64, 64), dtype=np.float32)
    model = load(save(tmp_path, [named(op.matmul(x, op.constant(w), False, False), "y")], [x]))
    fed = np.random.default_rng(2).standard_normal((5, 64), dtype=np.float32)
    np.testing.assert_allclose(run(model, x=fed)["y"], fed.astype(np.float64) @ w, rtol=1e-4, atol=1e-5)


def test_state_does_not_go_from_one_request_to_the_next(tmp_path: Path) -> None:
    x = parameter("x", [1, 2])
    variable = util.VariableInfo()
    variable.data_shape, variable.data_type, variable.variable_id = ov.PartialShape([1, 2]), ov.Type.f32, "sum"
    state = util.Variable(variable)
    before = op.read_value(op.constant(np.zeros((1, 2), np.float32)), state)
    total = named(op.add(before, x), "y")
    model = load(save(tmp_path, [op.result(total)], [x], [op.assign(total, state)]))
    for _ in range(3):
        assert run(model, x=np.array([[1, 2]], np.float32))["y"].tolist() == [[1, 2]]


def test_many_threads_at_once(tmp_path: Path) -> None:
    model = load(linear(tmp_path))
    wrong: list[object] = []

    def ask(number: int) -> None:
        for rows in (1, 2, 3) * 30:
            answer = run(model, x=np.full((rows, 2), number, np.float32))["y"]
            if answer.tolist() != [[5.0 * number + 1]] * rows:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = linear(tmp_path)
    (tmp_path / "model.bin").unlink()
    with pytest.raises(ServingError, match=r"there is no model\.bin") as caught:
        load(folder)
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_file_cut_anywhere_is_an_error_and_no_crash(tmp_path: Path, name: str) -> None:
    folder = linear(tmp_path)
    content = (tmp_path / name).read_bytes()
    for size in range(0, len(content) - 1, 1 if name == "model.bin" else 97):
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(ServingError) as caught:
            load(folder)
        assert caught.value.code is Code.INVALID_ARGUMENT


def test_an_unknown_operation_is_named(tmp_path: Path) -> None:
    folder = linear(tmp_path)
    file = tmp_path / "model.xml"
    file.write_text(file.read_text().replace('type="MatMul"', 'type="NoSuchOp"'))
    with pytest.raises(ServingError, match="NoSuchOp") as caught:
        load(folder)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_element_types_that_are_not_served_are_refused(tmp_path: Path) -> None:
    x = parameter("x", [2], ov.Type.bf16)
    with pytest.raises(ServingError, match="x is of OpenVINO's type bf16; expected one of f32") as caught:
        load(save(tmp_path, [named(op.negative(x), "y")], [x]))
    assert caught.value.code is Code.UNIMPLEMENTED
