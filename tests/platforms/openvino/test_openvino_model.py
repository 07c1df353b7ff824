"""SavedModels that OpenVINO reads: the answers are TensorFlow's, and what cannot be read is refused."""

import gc
import logging
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array
from pyserving.platforms.openvino.model import OpenVinoModel
from pyserving.platforms.openvino.platform import OpenVinoPlatform
from pyserving.platforms.platform import PlatformContext

pytest.importorskip("openvino")


def load(folder: Path, name: str = "", num_threads: int = 0) -> OpenVinoModel:
    return OpenVinoModel(str(folder / name / "1" if name else folder), ("serve",), num_threads)


def run(model: OpenVinoModel, name: str = "serving_default", /, **inputs: Array) -> dict[str, Array]:
    signature = model.signatures[name]
    outputs = tuple(signature.outputs)
    return dict(zip(outputs, model.run(signature, inputs, outputs), strict=True))


@pytest.mark.parametrize("name", ["linear", "names", "numbers", "loop"])
def test_the_answers_are_tensorflows(openvino_folder: Path, name: str) -> None:
    model = load(openvino_folder, name)
    cases = pickle.loads((openvino_folder / name / "answers.pickle").read_bytes())
    assert cases
    for signature, inputs, expected in cases:
        answers = run(model, signature, **inputs)
        assert answers.keys() == expected.keys()
        for alias, value in expected.items():
            assert answers[alias].dtype == value.dtype
            np.testing.assert_allclose(answers[alias], value, rtol=1e-6)


def test_signatures_are_those_of_the_file(openvino_folder: Path) -> None:
    model = load(openvino_folder, "linear")
    shown = model.signature_defs["scaled"]
    assert sorted(model.signature_defs) == ["scaled", "serving_default"]
    assert sorted(shown.inputs) == ["k", "x"]
    assert shown.inputs["x"].name == "scaled_x:0"
    assert [dim.size for dim in shown.inputs["x"].tensor_shape.dim] == [-1, 3]
    default, scaled = model.signatures["serving_default"], model.signatures["scaled"]
    assert (default.row_wise, default.steady, scaled.row_wise) == (True, True, False)
    assert not load(openvino_folder, "loop").signatures["serving_default"].steady


def test_arrays_that_may_not_be_written_to_are_read(openvino_folder: Path) -> None:
    model = load(openvino_folder, "linear")
    unaligned = np.frombuffer(b"\0" + np.ones(3, np.float32).tobytes(), np.uint8)[1:].view(np.float32)
    frozen = np.frombuffer(np.ones(3, np.float32).tobytes(), np.float32)
    expected = run(model, x=np.ones((1, 3), np.float32))["y"]
    for array in (unaligned, frozen):
        np.testing.assert_array_equal(run(model, x=array.reshape(1, 3))["y"], expected)


def test_answers_own_their_memory(openvino_folder: Path) -> None:
    model = load(openvino_folder, "names")
    x, k = np.array([1.0], np.float32), np.array([2.0], np.float32)
    first = run(model, x=x, k=k)
    x[:] = 100
    run(model, x=x, k=k)
    assert first["x"].tolist() == [1.0]


def test_signatures_that_would_answer_something_else_are_left_out(
    openvino_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = load(openvino_folder, "partly")
    assert sorted(model.signatures) == ["positive", "random", "serving_default"]
    assert not model.signatures["random"].row_wise
    text = caplog.text
    for part in (
        "without signature counts: it keeps state from run to run: AssignAddVariableOp",
        "without signature wide: the model computes with 8589934592, and OpenVINO computes integers in 32 bits",
        "without signature constant: OpenVINO leaves out c",
        "without signature text: No conversion rule found for operations: StringLower",
        "without signature any_rank: OpenVINO cannot compile the model: Unexpected: CPU plug-in doesn't support",
        "signature positive: OpenVINO leaves out the assertions in the graph",
    ):
        assert part in text


def test_a_model_that_openvino_cannot_read_names_what_to_install(openvino_folder: Path) -> None:
    with pytest.raises(ServingError, match=r"TensorFlow can: pip install 'pyserving\[tensorflow\]'") as caught:
        load(openvino_folder, "text")
    assert caught.value.code is Code.UNIMPLEMENTED


def test_integers_beyond_32_bits_are_refused(openvino_folder: Path) -> None:
    model = load(openvino_folder, "numbers")
    with pytest.raises(ServingError, match="OpenVINO computes int64 in 32 bits; got 7 to 1099511627776") as caught:
        run(model, "wide", x=np.array([7, 1 << 40]))
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((1, 4), np.float32), r"input x must have shape \[-1, 3\], got \[1, 4\]"),
        (np.zeros((1, 3), np.float64), "input x must be a float tensor, got double"),
    ],
)
def test_what_does_not_fit_says_what_was_expected_and_what_came(openvino_folder: Path, value: Any, text: str) -> None:
    with pytest.raises(ServingError, match=text) as caught:
        run(load(openvino_folder, "linear"), x=value)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("num_threads", [0, 1, 2])
def test_inputs_that_the_graph_cannot_join_are_the_clients_error(openvino_folder: Path, num_threads: int) -> None:
    """Also on one thread, as on a machine with one CPU, where OpenVINO itself would answer something."""
    model = load(openvino_folder, "names", num_threads)
    with pytest.raises(ServingError, match=r"inputs of shapes k \[3\], x \[2\]") as caught:
        run(model, x=np.zeros(2, np.float32), k=np.zeros(3, np.float32))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert run(model, x=np.zeros(2, np.float32), k=np.ones(2, np.float32))["k"].tolist() == [1, 1]


def test_the_graph_with_the_tags_is_served(model_dir: Any) -> None:
    folder = str(model_dir("two_tags") / "1")
    x = np.array([1.0], np.float32)
    assert run(OpenVinoModel(folder, ("serve",), 0), x=x)["y"] == 2
    assert run(OpenVinoModel(folder, ("gpu", "serve"), 0), x=x)["y"] == 3
    with pytest.raises(ServingError, match="no graph with the tags other: it has serve; ") as caught:
        OpenVinoModel(folder, ("other",), 0)
    assert caught.value.code is Code.NOT_FOUND


def test_a_saved_model_cut_anywhere_is_an_error_and_no_crash(openvino_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(openvino_folder / "linear" / "1", tmp_path / "1")
    file = tmp_path / "1" / "saved_model.pb"
    content = file.read_bytes()
    for size in range(0, len(content), 499):
        file.write_bytes(content[:size])
        with pytest.raises(ServingError):
            load(tmp_path / "1")
    file.write_bytes(content)
    (tmp_path / "1" / "variables" / "variables.data-00000-of-00001").unlink()
    with pytest.raises(ServingError):
        load(tmp_path / "1")


def test_unload_gives_the_compiled_model_back(openvino_folder: Path) -> None:
    folder = str(openvino_folder / "linear" / "1")
    loader = OpenVinoPlatform(PlatformContext()).loader(ServableId("m", 1), folder)
    assert loader.estimate_resources().ram_bytes > 0
    for _ in range(2):
        compiled = ref(loader.load()._functions["serving_default"]._compiled)
        assert compiled() is not None
        loader.unload()
        gc.collect()
        assert compiled() is None


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ServingError, match=r"pip install 'pyserving\[openvino\]'") as caught:
        load(tmp_path)
    assert caught.value.code is Code.FAILED_PRECONDITION
