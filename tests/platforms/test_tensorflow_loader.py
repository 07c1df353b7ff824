"""The loader: estimates, loads, and gives everything back."""

import os
from pathlib import Path

import numpy as np
import pytest
from tensorflow_models import ModelDir, RunPython

from pyserving.core.errors import Code, ServingError
from pyserving.core.loader import Loader
from pyserving.core.servable import ServableId
from pyserving.platforms.tensorflow.loader import TensorFlowLoader
from pyserving.platforms.tensorflow.session_config import SessionOptions

pytestmark = pytest.mark.tensorflow


def loader_of(folder: Path) -> TensorFlowLoader:
    return TensorFlowLoader(ServableId("model", 1), str(folder), SessionOptions())


def test_the_estimate_is_the_size_of_all_files_and_a_fifth_more(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"x" * 1000)
    (tmp_path / "variables" / "data").write_bytes(b"x" * 9000)
    assert loader_of(tmp_path).estimate_resources().ram_bytes == 12_000
    with pytest.raises(ServingError) as caught:
        loader_of(tmp_path / "missing").estimate_resources()
    assert caught.value.code == Code.NOT_FOUND


def test_a_load_may_be_tried_again(tmp_path: Path, model_dir: ModelDir) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    loader: Loader = loader_of(folder)
    with pytest.raises(ServingError):
        loader.load()
    folder.rmdir()
    os.symlink(model_dir("half_plus_two_tf2") / "1", folder)
    model = loader.load()
    assert model.signatures["serving_default"].inputs  # type: ignore[attr-defined]
    loader.unload()


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory use from /proc")
def test_memory_goes_back_to_the_system(run_python: RunPython, model_dir: ModelDir) -> None:
    """In a process of its own, so that no other test's memory counts."""
    code = """
import os, sys
import numpy as np
from pyserving.core.servable import ServableId
from pyserving.platforms.tensorflow.loader import TensorFlowLoader
from pyserving.platforms.tensorflow.session_config import SessionOptions

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def cycle(path):
    loader = TensorFlowLoader(ServableId("model", 1), path, SessionOptions())
    model = loader.load()
    signature = model.signatures["serving_default"]
    value = np.ones([] if "scale" in signature.inputs else [1], np.float32)
    assert model.run(signature, dict.fromkeys(signature.inputs, value), list(signature.outputs))
    loaded = resident()
    loader.unload()
    return loaded

small, large = sys.argv[1:]
cycle(small)
before = resident()
for _ in range(3):
    loaded = cycle(large)
print(loaded - before, resident() - before)
"""
    used, kept = map(
        int, run_python(code, str(model_dir("half_plus_two_tf2") / "1"), str(model_dir("large") / "1")).split()
    )
    assert used > 90_000_000
    assert kept < 20_000_000


def test_unloading_ends_the_session_alone(model_dir: ModelDir) -> None:
    first, second = loader_of(model_dir("half_plus_three") / "1"), loader_of(model_dir("half_plus_three") / "2")
    first.load()
    model = second.load()
    first.unload()
    x = np.array([2], np.float32)
    assert model.run(model.signatures["serving_default"], {"x": x}, ["y"])[0].tolist() == [31]
    second.unload()
