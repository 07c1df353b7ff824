"""A contender's environment: packages of its own first, and those of the benchmarks behind them."""

import importlib.util
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks import environments
from benchmarks.environments import NotAvailableError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pip") is None or os.name != "posix", reason="needs pip, and a venv with bin/"
)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package that hides the orjson of the benchmarks by another version, as MLServer's protobuf does."""
    path = tmp_path / "orjson-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("orjson.py", "OWN = True\n")
        archive.writestr("orjson-0.0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: orjson\nVersion: 0.0.1\n")
        archive.writestr(
            "orjson-0.0.1.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("orjson-0.0.1.dist-info/RECORD", "")
    return path


def test_it_has_its_own_packages_and_shares_the_others(tmp_path: Path, wheel: Path) -> None:
    python = environments.python_for("contender", [str(wheel)], tmp_path / "environments")
    code = "import numpy, orjson; print(orjson.OWN, numpy.__file__)"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=clean).stdout
    assert said.split() == ["True", importlib.util.find_spec("numpy").origin]  # type: ignore[union-attr]
    assert environments.versions(python, ["orjson[extra]>=0"]) == {"orjson": "0.0.1"}

    wheel.unlink()
    assert environments.python_for("contender", [str(wheel)], tmp_path / "environments") == python, "made only once"


def test_why_it_cannot_be_installed_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotAvailableError, match=r"^pip install \./nowhere: ERROR: .*nowhere"):
        environments.python_for("contender", ["./nowhere"], tmp_path)
