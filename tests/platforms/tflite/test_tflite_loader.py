"""Loading, what cannot be loaded, and unloading."""

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflite_running import LoadTFLite, VersionWith, floats

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.platforms.tflite.interpreter import Interpreter
from pyserving.platforms.tflite.litert import litert
from pyserving.platforms.tflite.loader import TFLiteLoader
from pyserving.platforms.tflite.model import TFLiteModel
from pyserving.platforms.tflite.options import TFLiteOptions

ID = ServableId("m", 1)


def interpreters() -> int:
    gc.collect()
    return sum(isinstance(known, Interpreter) for known in gc.get_objects())


def test_unload_drops_the_interpreters_and_load_works_again(tflite_folder: Path) -> None:
    before = interpreters()
    loader = TFLiteLoader(ID, str(tflite_folder / "linear" / "1"), TFLiteOptions())
    for _ in range(2):
        model = loader.load()
        signature = model.signatures["serving_default"]
        assert model.run(signature, {"x": floats(1, 3)}, ["y"])[0].shape == (1, 2)
        assert interpreters() == before + 1
        loader.unload()
        del model
        assert interpreters() == before


def test_resources_grow_with_the_file_and_the_interpreters(tflite_folder: Path) -> None:
    path = str(tflite_folder / "linear" / "1")
    size = (tflite_folder / "linear" / "1" / "model.tflite").stat().st_size
    one = TFLiteLoader(ID, path, TFLiteOptions(num_pools=1)).estimate_resources().ram_bytes
    four = TFLiteLoader(ID, path, TFLiteOptions(num_pools=2, num_interpreters_per_pool=2)).estimate_resources()
    assert size < one < four.ram_bytes


def test_a_folder_without_the_file_is_not_found(tmp_path: Path) -> None:
    loader = TFLiteLoader(ID, str(tmp_path), TFLiteOptions())
    calls: list[Callable[[], Any]] = [loader.estimate_resources, loader.load]
    for call in calls:
        with pytest.raises(ServingError, match=r"model\.tflite; No such file or directory") as caught:
            call()
        assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("flex_op", Code.UNIMPLEMENTED, "TensorFlow's own operations FlexMatrixInverse"),
        ("custom_op", Code.UNIMPLEMENTED, "custom operations MatrixInverse"),
        ("dtype_resource", Code.UNIMPLEMENTED, "serving_default_x:0 has element type 13"),
        ("variables_lost", Code.INVALID_ARGUMENT, "variables that nothing in the file sets"),
    ],
)
def test_what_litert_cannot_run_is_refused(load_tflite: LoadTFLite, name: str, code: Code, text: str) -> None:
    with pytest.raises(ServingError, match=text) as caught:
        load_tflite(name)
    assert caught.value.code is code


CUTS = """
import sys
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.tflite.model import TFLiteModel
from pyserving.platforms.tflite.options import TFLiteOptions

folder, step = sys.argv[1], int(sys.argv[2])
with open(folder + "/model.tflite", "rb") as file:
    content = file.read()
for size in range(0, len(content), step):
    with open(folder + "/model.tflite", "wb") as file:
        file.write(content[:size])
    try:
        TFLiteModel(folder, TFLiteOptions(num_pools=1))
    except ServingError as error:
        assert error.code is Code.INVALID_ARGUMENT, error
    else:
        raise AssertionError(f"{size} of {len(content)} bytes were taken for a model")
assert "tensorflow" not in sys.modules
"""


@pytest.mark.parametrize(("name", "step"), [("linear", 1), ("cnn", 7), ("counter", 3), ("dtype_string", 3)])
def test_a_file_cut_anywhere_is_an_error_and_no_crash(
    tflite_folder: Path, version_with: VersionWith, run_python: Callable[..., str], name: str, step: int
) -> None:
    folder = version_with((tflite_folder / name / "1" / "model.tflite").read_bytes())
    run_python(CUTS, folder, str(step))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 64, b"\x08\0\0\0TFL3" + b"\xff" * 64, b"<html>" * 20])
def test_other_files_are_refused(version_with: VersionWith, content: bytes) -> None:
    with pytest.raises(ServingError) as caught:
        TFLiteModel(version_with(content), TFLiteOptions())
    assert caught.value.code is Code.INVALID_ARGUMENT


def without_subgraphs(model: Any) -> None:
    model.subgraphs = None


def with_empty_subgraphs(model: Any) -> None:
    model.subgraphs = []


def without_operations(model: Any) -> None:
    model.operatorCodes = None


def without_buffers(model: Any) -> None:
    model.buffers = None


def with_input_out_of_range(model: Any) -> None:
    model.subgraphs[0].inputs = np.array([99], np.int32)


def with_signature_out_of_range(model: Any) -> None:
    model.signatureDefs[0].inputs[0].tensorIndex = 99


def with_signature_of_no_subgraph(model: Any) -> None:
    model.signatureDefs[0].subgraphIndex = 99


def with_buffer_beyond_the_end(model: Any) -> None:
    buffer = next(buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) == 24)
    buffer.data, buffer.offset, buffer.size = None, 1 << 30, 24


@pytest.mark.parametrize(
    "damage",
    [
        without_subgraphs,
        with_empty_subgraphs,
        without_operations,
        without_buffers,
        with_input_out_of_range,
        with_signature_out_of_range,
        with_signature_of_no_subgraph,
        with_buffer_beyond_the_end,
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    tflite_folder: Path, version_with: VersionWith, damage: Callable[[Any], None]
) -> None:
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = litert().schema
    content = (tflite_folder / "linear" / "1" / "model.tflite").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(content)))
    damage(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    with pytest.raises(ServingError) as caught:
        TFLiteModel(version_with(bytes(builder.Output())), TFLiteOptions())
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.fixture
def no_litert(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    litert.cache_clear()
    yield
    litert.cache_clear()


@pytest.mark.usefixtures("no_litert")
def test_without_litert_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"pip install 'pyserving\[tflite\]'") as caught:
        TFLiteLoader(ID, str(tmp_path), TFLiteOptions()).load()
    assert caught.value.code is Code.FAILED_PRECONDITION
