from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tflite_running import CallableModel, LoadTFLite

from pyserving.platforms.tflite.options import TFLiteOptions


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
