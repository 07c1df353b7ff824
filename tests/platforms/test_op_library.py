"""Operations that TensorFlow itself does not have, from libraries of others."""

import _ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from tensorflow_models import ModelDir, RunPython

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.tensorflow.op_library import load_op_libraries


@pytest.fixture
def text_library() -> str:
    found = importlib.util.find_spec("tensorflow_text")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs tensorflow-text")
    return str(Path(found.submodule_search_locations[0], "python", "ops", "_regex_split_ops.so"))


def test_a_model_with_such_an_operation(model_dir: ModelDir, run_python: RunPython, text_library: str) -> None:
    """In a process of its own: what was loaded stays."""
    code = """
import sys
import numpy as np
from pyserving.core.errors import ServingError
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.op_library import load_op_libraries
from pyserving.platforms.tensorflow.session_config import SessionOptions
try:
    TensorFlowModel(sys.argv[1], SessionOptions())
except ServingError as error:
    print(error.message.splitlines()[0])
load_op_libraries([sys.argv[2], sys.argv[2]])
model = TensorFlowModel(sys.argv[1], SessionOptions())
text = np.array([b"a few words", b"one"], object)
for array in model.run(model.signatures["serving_default"], {"text": text}, ("tokens", "row_splits")):
    print(array.tolist())
"""
    path = str(model_dir("text_ops") / "1")
    without, tokens, splits = run_python(code, path, text_library).splitlines()
    assert "Op type not registered 'RegexSplitWithOffsets'" in without
    assert tokens == "[b'a', b'few', b'words', b'one']"
    assert splits == "[0, 3, 4]"


def refused(path: str | Path) -> ServingError:
    with pytest.raises(ServingError) as caught:
        load_op_libraries([str(path)])
    assert str(path) in caught.value.message
    return caught.value


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    error = refused(tmp_path / "none.so")
    assert error.code is Code.NOT_FOUND
    assert error.message.endswith("no such file")


@pytest.mark.tensorflow
def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    file = tmp_path / "text.so"
    file.write_text("no library")
    error = refused(file)
    assert error.code is Code.INVALID_ARGUMENT
    assert "cannot be loaded into TensorFlow 2." in error.message


@pytest.mark.tensorflow
def test_a_library_without_operations() -> None:
    error = refused(_ctypes.__file__)
    assert error.code is Code.INVALID_ARGUMENT
    assert "has neither operations nor kernels" in error.message


@pytest.mark.tensorflow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_library_for_another_tensorflow(tmp_path: Path) -> None:
    """It uses a function that the TensorFlow installed does not have."""
    source, library = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("void _ZN10tensorflow8NotThereEv(void); void init(void) { _ZN10tensorflow8NotThereEv(); }")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    error = refused(library)
    assert error.code is Code.INVALID_ARGUMENT
    assert "for which it has to be built" in error.message
    assert "undefined symbol: _ZN10tensorflow8NotThereEv" in error.message
