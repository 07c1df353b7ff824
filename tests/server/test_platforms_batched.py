"""Requests to models of every platform are joined for one run."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_models import BUILDERS, expected
from running_server import RunningServer

from pyserving.batching.parameters import BatchingParameters
from pyserving.core.state import State
from pyserving.sources.model_config import ModelConfig

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("name", BUILDERS)
def test_requests_are_joined(
    name: str, start: Callable[..., RunningServer], openvino_folder: Path, tflite_folder: Path, tmp_path: Path
) -> None:
    build, platform = BUILDERS[name]
    build(tmp_path / "1", openvino_folder, tflite_folder)
    # A batch that is not full would be run only after ten minutes, long after the clients have given up.
    batching = BatchingParameters(max_batch_size=4, max_execution_batch_size=4, batch_timeout_micros=600_000_000)
    server = start([ModelConfig("m", str(tmp_path), platform=platform)], batching=batching)
    assert server.settled("m").state is State.AVAILABLE
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)

    def ask(row: Any) -> Any:
        return server.post("m:predict", {"instances": [row.tolist()]})["predictions"][0]

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(ask, rows))
    np.testing.assert_allclose(answers, expected(name, rows), rtol=1e-6)
