"""Models that are Python code, in a whole server, asked over REST and gRPC."""

import json
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import requests
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


COUNT = """
    import asyncio
    import numpy as np
    from pyserving import Model, Tensor, signature

    class Count(Model):
        def load(self, folder):
            self.folder = folder

        def predict(self, to: Tensor[np.int64]) -> {"number": Tensor[np.int64]}:
            try:
                for number in range(int(to)):
                    if number == 1000:
                        raise RuntimeError("too far")
                    yield {"number": number}
            finally:
                (self.folder / "closed").touch()

        @signature
        async def forever(self, start: Tensor[np.int64]) -> {"number": Tensor[np.int64]}:
            try:
                yield {"number": start}
                await asyncio.Event().wait()
            finally:
                (self.folder / "closed").touch()
    """


def streamed(server: RunningServer, request: messages.PredictRequest) -> grpc.UnaryStreamMultiCallable:
    return server.channel.unary_stream(
        PREDICTION + "PredictStreamed",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages.PredictResponse.FromString,
    )(request, timeout=60)


def number(value: int) -> messages.TensorProto:
    return tensor(value, dtype="DT_INT64", shape=[])


def test_streams_over_grpc(tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start([write_model(tmp_path, "count", COUNT)], python_options=ON)
    server.settled("count")
    answers = list(streamed(server, predict_request("count", "", to=number(300))))
    assert [answer.outputs["number"].int64_val[0] for answer in answers] == list(range(300))
    assert answers[0].model_spec.version.value == 1

    answers = streamed(server, predict_request("count", "", to=number(5000)))
    with pytest.raises(grpc.RpcError) as raised:
        list(answers)
    assert (raised.value.code(), raised.value.details()) == (
        grpc.StatusCode.INTERNAL,
        "model code raised RuntimeError",
    )


@pytest.mark.parametrize(("signature", "name", "value"), [("", "to", 10**9), ("forever", "start", 0)])
def test_a_cancelled_stream_stops_the_generator(
    tmp_path: Path, start: Start, signature: str, name: str, value: int
) -> None:
    server = start([write_model(tmp_path, "count", COUNT.replace("number == 1000", "False"))], python_options=ON)
    server.settled("count")
    answers = streamed(server, predict_request("count", signature, **{name: number(value)}))
    assert next(answers).outputs["number"].int64_val[0] == 0
    answers.cancel()
    wait_until((tmp_path / "count" / "1" / "closed").exists)
    wait_until(lambda: not any(server.server.catalog.manager.handles_out().values()))


def ask_stream(server: RunningServer, path: str, body: object, accept: str) -> requests.Response:
    url = f"http://{server.server.rest_address}/v1/models/{path}:predict"
    return requests.post(url, json=body, headers={"Accept": accept}, stream=True, timeout=60)


def test_streams_over_rest(tmp_path: Path, start: Start) -> None:
    server = start([write_model(tmp_path, "count", COUNT), write_model(tmp_path, "scale", SCALE)], python_options=ON)
    server.settled("count")
    server.settled("scale")
    answer = ask_stream(server, "count", {"inputs": {"to": 3}}, "application/x-ndjson")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.iter_lines()] == [{"outputs": number} for number in range(3)]
    answer = ask_stream(server, "count", {"inputs": {"to": 2}}, "text/event-stream")
    assert answer.content == b'data: {"outputs":0}\n\ndata: {"outputs":1}\n\n'
    # An error after the first piece is the last piece; before it, an answer as ever.
    lines = list(ask_stream(server, "count", {"inputs": {"to": 9999}}, "application/x-ndjson").iter_lines())
    assert json.loads(lines[-1]) == {"error": "model code raised RuntimeError"}
    assert len(lines) == 1001
    answer = ask_stream(server, "count", {"inputs": {"to": "x"}}, "application/x-ndjson")
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/json")
    # A signature that does not stream answers with one piece; one that does has no whole answer.
    assert ask_stream(server, "scale", {"inputs": {"x": [1], "add": 1}}, "application/x-ndjson").json() == {
        "outputs": [3.0]
    }
    answer = ask_stream(server, "count", {"inputs": {"to": 3}}, "*/*")
    assert answer.status_code == 400
    assert "application/x-ndjson" in answer.json()["error"]


@pytest.mark.parametrize(("signature", "name", "value"), [("", "to", 10**9), ("forever", "start", 0)])
def test_a_client_that_goes_stops_the_generator(
    tmp_path: Path, start: Start, signature: str, name: str, value: int
) -> None:
    server = start([write_model(tmp_path, "count", COUNT.replace("number == 1000", "False"))], python_options=ON)
    server.settled("count")
    body = {"inputs": {name: value}, "signature_name": signature}
    answer = ask_stream(server, "count", body, "application/x-ndjson")
    assert next(answer.iter_lines(chunk_size=1)) == b'{"outputs":0}'
    answer.close()
    wait_until((tmp_path / "count" / "1" / "closed").exists)
    wait_until(lambda: not any(server.server.catalog.manager.handles_out().values()))
