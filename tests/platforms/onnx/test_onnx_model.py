"""ONNX models: what they say of themselves, their answers, and what is refused."""

import gc
import sys
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
from onnx_models import FLOAT, TensorProto, build, counting, helper, linear, node, onnx, run, save

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.onnx.model import OnnxModel
from pyserving.platforms.onnx.op_types import count_op_types
from pyserving.platforms.onnx.platform import OnnxPlatform
from pyserving.platforms.platform import PlatformContext

DTYPES = {
    TensorProto.FLOAT: DType.FLOAT,
    TensorProto.DOUBLE: DType.DOUBLE,
    TensorProto.FLOAT16: DType.HALF,
    TensorProto.INT8: DType.INT8,
    TensorProto.INT16: DType.INT16,
    TensorProto.INT32: DType.INT32,
    TensorProto.INT64: DType.INT64,
    TensorProto.UINT8: DType.UINT8,
    TensorProto.UINT16: DType.UINT16,
    TensorProto.UINT32: DType.UINT32,
    TensorProto.UINT64: DType.UINT64,
    TensorProto.BOOL: DType.BOOL,
    TensorProto.STRING: DType.STRING,
}


def load(folder: Path, model: Any) -> OnnxModel:
    return OnnxModel(save(folder, model), 0)


def refused(folder: Path, model: Any) -> ServingError:
    with pytest.raises(ServingError) as caught:
        load(folder, model)
    return caught.value


def test_a_model_computes_and_shows_its_signature(tmp_path: Path) -> None:
    model = load(tmp_path, linear())
    answer = run(model, x=np.array([[1, 1], [0, 2]], np.float32))["y"]
    np.testing.assert_array_equal(answer, np.array([[6], [7]], np.float32))
    signature = model.signatures["serving_default"]
    assert (signature.stateless, signature.steady) == (True, True)
    shown = model.signature_defs["serving_default"]
    assert shown.method_name == "tensorflow/serving/predict"
    assert shown.inputs["x"].dtype == DType.FLOAT
    assert [dim.size for dim in shown.inputs["x"].tensor_shape.dim] == [-1, 2]


@pytest.mark.parametrize(("onnx_type", "dtype"), DTYPES.items(), ids=lambda value: getattr(value, "name", None))
def test_every_dtype_goes_in_and_out(tmp_path: Path, onnx_type: int, dtype: DType) -> None:
    values = [b"", "ü\0 日本".encode()] if dtype is DType.STRING else [0, 1]
    model = load(tmp_path, build([node("Identity", "x", "y")], {"x": (onnx_type, ["N"])}, {"y": (onnx_type, ["N"])}))
    assert model.signatures["serving_default"].inputs["x"].dtype is dtype
    fed = np.array(values, NUMPY_OF[dtype])
    answer = run(model, x=fed)["y"]
    assert answer.dtype == fed.dtype
    assert answer.tolist() == values


def test_scalars_of_text(tmp_path: Path) -> None:
    text = TensorProto.STRING
    model = load(tmp_path, build([node("Identity", "x", "y")], {"x": (text, [])}, {"y": (text, [])}))
    assert run(model, x=np.array(b"word", object))["y"].item() == b"word"


def test_bytes_that_are_no_text_are_the_clients_error(tmp_path: Path) -> None:
    text = TensorProto.STRING
    model = load(tmp_path, build([node("Identity", "x", "y")], {"x": (text, ["N"])}, {"y": (text, ["N"])}))
    with pytest.raises(ServingError, match="input x must be text in UTF-8") as caught:
        run(model, x=np.array([b"\xff"], object))
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((1, 3), np.float32), r"input x must have shape \[-1, 2\], got \[1, 3\]"),
        (np.zeros(2, np.float32), r"input x must have shape \[-1, 2\], got \[2\]"),
        (np.zeros((1, 2), np.int32), "input x must be a float tensor, got int32"),
    ],
)
def test_what_does_not_fit_says_what_was_expected_and_what_came(tmp_path: Path, value: Any, text: str) -> None:
    with pytest.raises(ServingError, match=text) as caught:
        run(load(tmp_path, linear()), x=value)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_inputs_that_the_graph_cannot_join_are_the_clients_error(tmp_path: Path) -> None:
    inputs = {"a": (FLOAT, ["N", 2]), "b": (FLOAT, ["M", 2])}
    model = load(tmp_path, build([node("Add", "a b", "y")], inputs, {"y": (FLOAT, ["K", 2])}))
    with pytest.raises(ServingError, match=r"inputs of shapes a \[2, 2\], b \[3, 2\]") as caught:
        run(model, a=np.zeros((2, 2), np.float32), b=np.zeros((3, 2), np.float32))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert run(model, a=np.zeros((2, 2), np.float32), b=np.ones((2, 2), np.float32))["y"].sum() == 4


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    weights = {"w": np.arange(4096, dtype=np.float32).reshape(4096, 1)}
    model = build([node("MatMul", "x w", "y")], {"x": (FLOAT, ["N", 4096])}, {"y": (FLOAT, ["N", 1])}, weights)
    onnx.save(model, str(tmp_path / "model.onnx"), save_as_external_data=True, location="weights.bin")
    x = np.ones((1, 4096), np.float32)
    assert run(OnnxModel(str(tmp_path), 0), x=x)["y"][0, 0] == np.arange(4096).sum()
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ServingError, match=r"weights\.bin") as caught:
        OnnxModel(str(tmp_path), 0)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_loop_may_take_long_and_ends_at_its_time_out(tmp_path: Path) -> None:
    model = load(tmp_path, counting())
    signature = model.signatures["serving_default"]
    assert not signature.steady
    start = np.array(0, np.float32)
    assert run(model, 60.0, steps=np.array(3), start=start)["end"] == 3
    with pytest.raises(ServingError, match="ended after") as caught:
        run(model, 0.2, steps=np.array(1 << 40), start=start)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert run(model, 60.0, steps=np.array(2), start=start)["end"] == 2


def test_an_unknown_operation_is_named(tmp_path: Path) -> None:
    model = build([node("NoSuchOp", "x", "y")], {"x": (FLOAT, ["N"])}, {"y": (FLOAT, ["N"])})
    error = refused(tmp_path, model)
    assert error.code is Code.INVALID_ARGUMENT
    assert "No Op registered for NoSuchOp" in error.message
    assert "ONNXRuntimeError" not in error.message


def test_an_operation_of_an_unknown_domain_is_named(tmp_path: Path) -> None:
    model = build([node("Foo", "x", "y", domain="example.org")], {"x": (FLOAT, ["N"])}, {"y": (FLOAT, ["N"])})
    model.opset_import.append(helper.make_opsetid("example.org", 1))
    assert "example.org:Foo" in refused(tmp_path, model).message


def test_inputs_that_cannot_be_fed_are_refused(tmp_path: Path) -> None:
    kind = TensorProto.BFLOAT16
    model = build([node("Identity", "x", "y")], {"x": (kind, ["N"])}, {"y": (kind, ["N"])})
    error = refused(tmp_path, model)
    assert error.code is Code.UNIMPLEMENTED
    assert "x is of type tensor(bfloat16); expected one of tensor(float)" in error.message


def test_outputs_that_are_no_tensors_are_left_out(tmp_path: Path) -> None:
    model = build([node("SequenceConstruct", "x x", "s"), node("Neg", "x", "y")], {"x": (FLOAT, ["N"])}, {})
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, ["N"])
    model.graph.output.extend([sequence, helper.make_tensor_value_info("y", FLOAT, ["N"])])
    assert list(load(tmp_path, model).signatures["serving_default"].outputs) == ["y"]
    del model.graph.output[1]
    assert "no output is a tensor" in refused(tmp_path, model).message


def test_a_file_cut_anywhere_is_an_error_and_no_crash(tmp_path: Path) -> None:
    content = counting().SerializeToString()
    file = tmp_path / "model.onnx"
    for size in range(len(content)):
        file.write_bytes(content[:size])
        with pytest.raises(ServingError) as caught:
            OnnxModel(str(tmp_path), 1)
        assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\xff" * 64, b"<html>" * 20])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ServingError) as caught:
        OnnxModel(str(tmp_path), 0)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_operations_are_found_inside_of_others(tmp_path: Path) -> None:
    assert count_op_types(save(tmp_path, counting()) + "/model.onnx").keys() == {"Loop", "Identity", "Add"}


def test_unload_gives_the_session_back(tmp_path: Path) -> None:
    loader = OnnxPlatform(PlatformContext()).loader(ServableId("m", 1), save(tmp_path, linear()))
    assert loader.estimate_resources().ram_bytes > (tmp_path / "model.onnx").stat().st_size
    for _ in range(2):
        session = ref(loader.load()._session)
        assert session() is not None
        loader.unload()
        gc.collect()
        assert session() is None


def test_a_folder_without_the_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"model\.onnx; No such file or directory") as caught:
        OnnxModel(str(tmp_path), 0)
    assert caught.value.code is Code.NOT_FOUND


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ServingError, match=r"pip install 'pyserving\[onnx\]'") as caught:
        OnnxModel(str(tmp_path), 0)
    assert caught.value.code is Code.FAILED_PRECONDITION
