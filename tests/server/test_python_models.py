"""Models that are Python code, in a whole server, asked over REST and gRPC."""

import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from running_server import PREDICTION, RunningServer, predict_request, tensor

from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]
ON = PythonOptions(PythonModels.ON)


def write_model(folder: Path, name: str, code: str, version: int = 1) -> ModelConfig:
    version_folder = folder / name / str(version)
    version_folder.mkdir(parents=True)
    (version_folder / "model.py").write_text(textwrap.dedent(code))
    return ModelConfig(name, str(folder / name))


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


SCALE = """
    import numpy as np
    from pyserving import InvalidInput, Model, Tensor, signature

    class Scale(Model):
        def load(self, folder):
            self.factor = 2.0

        def predict(self, x: Tensor[np.float32, None], add: Tensor[np.float32] = 1.0) -> Tensor[np.float32, None]:
            if np.isnan(x).any():
                raise InvalidInput("x must be numbers")
            return x * self.factor + add

        @signature
        async def describe(self, x: Tensor[str, None]) -> {"upper": Tensor[str, None], "size": Tensor[np.int64, None]}:
            return {"upper": [text.upper() for text in x], "size": [len(text) for text in x]}

        @signature
        def breaks(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return {}["missing"]
    """


def test_signatures_are_methods(tmp_path: Path, start: Start) -> None:
    server = start([write_model(tmp_path, "scale", SCALE)], python_options=ON)
    assert server.settled("scale").state is State.AVAILABLE
    assert server.post("scale:predict", {"inputs": {"x": [1, 2], "add": 3}}) == {"outputs": [5.0, 7.0]}
    answer = server.post("scale:predict", {"signature_name": "describe", "instances": ["é", "ab"]})
    assert answer == {"predictions": [{"upper": "É", "size": 1}, {"upper": "AB", "size": 2}]}
    request = predict_request("scale", "", x=tensor(1.0, 2.0))
    response = server.call(PREDICTION + "Predict", request, messages.PredictResponse)
    assert list(response.outputs["output_0"].float_val) == [3.0, 5.0]


def test_exceptions(tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start([write_model(tmp_path, "scale", SCALE)], python_options=ON)
    server.settled("scale")
    for signature, values, code, text in (
        ("", [float("nan")], grpc.StatusCode.INVALID_ARGUMENT, "x must be numbers"),
        ("breaks", [1.0], grpc.StatusCode.INTERNAL, "model code raised KeyError"),
    ):
        request = predict_request("scale", signature, x=tensor(*values))
        with pytest.raises(grpc.RpcError) as raised:
            server.call(PREDICTION + "Predict", request, messages.PredictResponse)
        assert (raised.value.code(), raised.value.details()) == (code, text)
    assert "KeyError: 'missing'" in caplog.text


def test_off_by_default(tmp_path: Path, start: Start) -> None:
    state = start([write_model(tmp_path, "scale", SCALE)]).settled("scale")
    assert state.state is State.END
    assert "--python-models=on" in state.error.message


PIPELINE = """
    import numpy as np
    from pyserving import Model, Tensor

    class Pipeline(Model):
        def predict(self, text: Tensor[str, None]) -> {"y": Tensor[np.float32, None]}:
            numbers = [float(one) for one in text]
            return {"y": self.models["half_plus_two"].predict(x=numbers)["y"]}
    """


def test_composition(tmp_path: Path, start: Start, model_dir: Callable[[str], Path]) -> None:
    half = ModelConfig("half_plus_two", str(model_dir("half_plus_two_tf2")))
    server = start([half, write_model(tmp_path, "pipeline", PIPELINE)], python_options=ON)
    server.settled("half_plus_two")
    server.settled("pipeline")
    assert server.post("pipeline:predict", {"instances": ["1.0", "5"]}) == {"predictions": [2.5, 4.5]}
    wait_until(lambda: not any(server.server.catalog.manager.handles_out().values()))
