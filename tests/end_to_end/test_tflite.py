"""A .tflite file in a version folder is served like any other model."""

import pickle
import shutil
from pathlib import Path

import numpy as np
from serving import Serving


def test_a_tflite_model_is_served(tflite_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tflite_folder / "linear", tmp_path / "linear")
    server = Serving(str(tmp_path)).wait_until_ready()
    try:
        signature, inputs, outputs = pickle.loads((tflite_folder / "linear" / "answers.pickle").read_bytes())[0]
        body = {"signature_name": signature, "inputs": {name: value.tolist() for name, value in inputs.items()}}
        status, answer = server.post_json("/v1/models/linear:predict", body)
        assert status == 200
        ((_, expected),) = outputs.items()
        np.testing.assert_allclose(answer["outputs"], expected, rtol=1e-6)
        shown = server.get("/v1/models/linear/metadata")[1]["metadata"]["signature_def"]["signature_def"]
        assert signature in shown
    finally:
        assert server.stop() == 0
