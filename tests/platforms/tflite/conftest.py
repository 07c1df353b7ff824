import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tflite_running import CallableModel, LoadTFLite

from pyserving.platforms.tflite.options import TFLiteOptions

_BUILDER = Path(__file__).parents[2] / "tflite_models.py"


@pytest.fixture(scope="session")
def tflite_folder(pytestconfig: pytest.Config) -> Path:
    """The folder with all models of tflite_models.py. Not to be written to. Kept in pytest's cache while they hold."""
    pytest.importorskip("ai_edge_litert")
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow's converter")
    versions = sorted(
        f"{found.name} {found.version}"
        for found in importlib.metadata.distributions()
        if found.name in ("tensorflow", "tensorflow-cpu", "tensorflow_cpu")
    )
    key = hashlib.sha256(_BUILDER.read_bytes() + repr(versions).encode()).hexdigest()[:16]
    cache: pytest.Cache = pytestconfig.cache
    parent = cache.mkdir("tflite_models")
    folder = parent / key
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=parent) as scratch:
            fresh = Path(scratch, "models")
            built = subprocess.run([sys.executable, _BUILDER, fresh], capture_output=True, text=True, check=False)
            if built.returncode:
                pytest.fail(f"the models could not be built:\n{built.stderr}")
            try:
                fresh.rename(folder)
            except OSError:  # another test process was quicker
                if not folder.exists():
                    raise
    return folder


@pytest.fixture
def load_tflite(tflite_folder: Path) -> LoadTFLite:
    """``load_tflite("linear", num_pools=2)``"""

    def load(name: str, **options: Any) -> CallableModel:
        return CallableModel(str(tflite_folder / name / "1"), TFLiteOptions(**options))

    return load


@pytest.fixture
def version_with(tmp_path: Path) -> Callable[[bytes], str]:
    """``version_with(content)``: a version folder with that model.tflite."""

    def write(content: bytes) -> str:
        (tmp_path / "model.tflite").write_bytes(content)
        return str(tmp_path)

    return write
