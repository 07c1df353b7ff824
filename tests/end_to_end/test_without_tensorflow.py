"""Where TensorFlow is not installed, SavedModels that OpenVINO can read are served, and others say what to install."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from asking import ask_grpc, ask_rest
from platform_models import BUILDERS, expected
from serving import Serving
from waiting import wait_until

ROOT = Path(__file__).parents[2]
X = np.array([[1, 2, 3]], np.float32)
HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in {names}: raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
"""


def hiding(folder: Path, *names: str) -> dict[str, str]:
    """The environment of a Python that does not find the packages of these names."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDE.format(names=names))
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def wait_for(server: Serving, text: str) -> None:
    wait_until(lambda: text in server.log(), server.log)


def test_what_openvino_reads_is_served_and_the_rest_says_what_to_install(openvino_folder: Path, tmp_path: Path) -> None:
    for name in ("linear", "text"):
        shutil.copytree(openvino_folder / name, tmp_path / "models" / name)
    server = Serving(str(tmp_path / "models"), env=hiding(tmp_path / "site", "tensorflow"))
    try:
        wait_for(server, "Loaded servable {name: linear version: 1}")
        for ask in (ask_rest, ask_grpc):
            np.testing.assert_allclose(ask(server, "linear", {"x": X})["y"], expected("tensorflow", X), rtol=1e-6)
            scaled = ask(server, "linear", {"x": X, "k": np.array(2, np.float32)}, "scaled")
            assert (scaled["y"].tolist(), scaled["total"].tolist()) == ([[2, 4, 6]], 6)
        wait_for(server, "TensorFlow can: pip install 'pyserving[tensorflow]'")
        assert server.get("/readyz")[1]["missing"] == ["text"]
    finally:
        assert server.stop() == 0


def test_without_openvino_too_both_are_named(openvino_folder: Path, tmp_path: Path) -> None:
    server = Serving(str(openvino_folder / "linear"), env=hiding(tmp_path / "site", "tensorflow", "openvino"))
    try:
        wait_for(server, "pip install 'pyserving[tensorflow]' (or 'pyserving[openvino]'")
    finally:
        assert server.stop() == 0


def installed(folder: Path, extra: str) -> Path:
    """The Python of a new environment with the package as users install it."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    for command in (
        [sys.executable, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--quiet", f"{ROOT}[{extra}]"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no environment with pyserving[{extra}]: {done.stderr[-500:]}")
    return python


@pytest.mark.soak
@pytest.mark.parametrize(
    ("extra", "names"),
    [("openvino", ["openvino", "saved_model_by_openvino"]), ("tflite", ["tflite"]), ("onnx", ["onnx"])],
)
def test_an_installation_with_one_extra_alone(
    extra: str, names: Sequence[str], openvino_folder: Path, tflite_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    python = installed(tmp_path / "venv", extra)
    for name in names:
        BUILDERS[name][0](tmp_path / "models" / name / "1", openvino_folder, tflite_folder)
    command = (str(python.with_name("pyserving")), "serve")
    server = Serving(str(tmp_path / "models"), command=command, env={"PYTHONPATH": ""}).wait_until_ready()
    try:
        for name in names:
            for ask in (ask_rest, ask_grpc):
                np.testing.assert_allclose(ask(server, name, {"x": X})["y"], expected(name, X), rtol=1e-6)
    finally:
        assert server.stop() == 0
