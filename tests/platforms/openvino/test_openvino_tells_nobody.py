"""OpenVINO's package reports to its makers which models it reads. In a server it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")

SCRIPT = """
import sys

started = []
sys.addaudithook(lambda event, _: started.append(event) if event in EVENTS else None)

from pyserving.platforms.openvino.model import OpenVinoModel
from pyserving.platforms.openvino.saved_model import convert_signature
from pyserving.platforms.openvino.runtime import openvino

import numpy as np

folder, artefact = sys.argv[1:]
model = OpenVinoModel(folder, ("serve",), 1)
signature = model.signatures["serving_default"]
model.run(signature, {"x": np.zeros((1, 3), np.float32)}, tuple(signature.outputs))
convert_signature(folder, ("serve",), "serving_default", artefact)
openvino().convert_model  # the part that reports
assert sys.modules["openvino_telemetry"] is None
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
assert not started, started
""".replace("EVENTS", '("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "socket.connect")')


def test_reading_a_model_neither_reports_it_nor_starts_a_process(openvino_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(openvino_folder / "linear" / "1"), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
