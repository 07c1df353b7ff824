"""Models that are Python code, in a whole server, asked over REST and gRPC."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import requests
from model_files import COUNT, PIPELINE, SCALE, write_model
from running_server import PREDICTION, RunningServer, predict_request, tensor
from waiting import wait_until

from pyserving.core.errors import Code
from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_policy import All

Start = Callable[..., RunningServer]
ON = PythonOptions(PythonModels.ON)


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


def test_composition(tmp_path: Path, start: Start, model_dir: Callable[[str], Path]) -> None:
    half = ModelConfig("half_plus_two", str(model_dir("half_plus_two_tf2")))
    server = start([half, write_model(tmp_path, "pipeline", PIPELINE)], python_options=ON)
    server.settled("half_plus_two")
    server.settled("pipeline")
    body = {"instances": ["1.0", "5"]}
    # More at a time than there are threads of either: who waits for another must not take its thread.
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda _: server.post("pipeline:predict", body), range(200)))
    assert answers == [{"predictions": [2.5, 4.5]}] * 200
    wait_until(lambda: not any(server.server.directory.serving.handles_out().values()))


def number(value: int) -> messages.TensorProto:
    return tensor(value, dtype="DT_INT64", shape=[])


def test_streams_over_grpc(tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start([write_model(tmp_path, "count", COUNT)], python_options=ON)
    server.settled("count")
    answers = list(server.streamed(predict_request("count", "", to=number(300))))
    assert [answer.outputs["number"].int64_val[0] for answer in answers] == list(range(300))
    assert answers[0].model_spec.version.value == 1

    answers = server.streamed(predict_request("count", "", to=number(5000)))
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
    answers = server.streamed(predict_request("count", signature, **{name: number(value)}))
    assert next(answers).outputs["number"].int64_val[0] == 0
    answers.cancel()
    wait_until((tmp_path / "count" / "1" / "closed").exists)
    wait_until(lambda: not any(server.server.directory.serving.handles_out().values()))


def ask_stream(server: RunningServer, path: str, body: object, accept: str) -> requests.Response:
    url = f"http://{server.server.ports.rest_address}/v1/models/{path}:predict"
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
    wait_until(lambda: not any(server.server.directory.serving.handles_out().values()))


BAD = """
    import time
    from pathlib import Path
    import numpy as np
    from pyserving import Model, Tensor, signature

    class Bad(Model):
        time_limit = 0.2

        def load(self, folder):
            self.folder = folder

        def predict(self, x: Tensor[np.float32, None]) -> {"y": Tensor[np.int32, None], "z": Tensor[np.float32, 2]}:
            return {"y": x, "z": [1.0, 2.0]}

        @signature
        def shape(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, 2]:
            return x

        @signature
        def names(self, x: Tensor[np.float32, None]) -> {"y": Tensor[np.float32, None]}:
            return {"z": x}

        @signature
        def exits(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            raise SystemExit(3)

        @signature
        def writes(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            x += 1
            return x

        @signature
        def hang(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            while not (self.folder / "go").exists():
                time.sleep(0.01)
            return x
    """


@pytest.mark.parametrize(
    ("signature", "code", "message"),
    [
        ("", "INTERNAL", "model code returned a wrong output y: expected type int32, got float"),
        ("shape", "INTERNAL", "model code returned a wrong output output_0: expected shape [2], got [1]"),
        ("names", "INTERNAL", "model code returned the wrong outputs: expected ['y'], got ['z']"),
        ("exits", "INTERNAL", "model code raised SystemExit"),
        ("writes", "INTERNAL", "model code raised ValueError"),
        ("hang", "DEADLINE_EXCEEDED", "the model took longer than its time limit of 0.2 s"),
    ],
)
def test_wrong_answers(tmp_path: Path, start: Start, signature: str, code: str, message: str) -> None:
    text = BAD if signature == "hang" else BAD.replace("time_limit = 0.2", "")
    server = start([write_model(tmp_path, "bad", text), write_model(tmp_path, "scale", SCALE)], python_options=ON)
    server.settled("bad")
    server.settled("scale")
    with pytest.raises(grpc.RpcError) as raised:
        server.call(PREDICTION + "Predict", predict_request("bad", signature, x=tensor(1.0)), messages.PredictResponse)
    assert (raised.value.code().name, raised.value.details()) == (code, message)
    request = predict_request("scale", "", x=tensor(1.0))
    assert server.call(PREDICTION + "Predict", request, messages.PredictResponse)
    (tmp_path / "bad" / "1" / "go").touch()


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("def f(:", Code.FAILED_PRECONDITION, "model.py is no Python: invalid syntax"),
        ("import no_such_module", Code.FAILED_PRECONDITION, "raised ModuleNotFoundError: No module named"),
        ("x = 1", Code.FAILED_PRECONDITION, "one class that derives from pyserving.Model, found none"),
        (
            """
            from pyserving import Model
            class M(Model):
                def predict(self, x): ...
            """,
            Code.FAILED_PRECONDITION,
            "M.predict: parameter x must be annotated as a Tensor[...], got nothing",
        ),
        (
            """
            import time
            class M:
                load_time_limit = 0.2
            time.sleep(3)
            """,
            Code.DEADLINE_EXCEEDED,
            "was not imported and loaded within 0.2 s",
        ),
        (
            """
            import time
            from pyserving import Model
            class M(Model):
                load_time_limit = 0.1 + 0.1
                def load(self, folder):
                    time.sleep(3)
            """,
            Code.DEADLINE_EXCEEDED,
            "was not imported and loaded within 0.2 s",
        ),
        (
            """
            from pyserving import Model
            class M(Model):
                isolation = str("process")
            """,
            Code.FAILED_PRECONDITION,
            "isolation must be a constant",
        ),
        (
            """
            from pyserving import Model
            class M(Model):
                def load(self, folder):
                    self.models["other"].predict(x=1)
            """,
            Code.FAILED_PRECONDITION,
            "model other, asked by broken",
        ),
    ],
)
def test_what_does_not_load_harms_no_other(tmp_path: Path, start: Start, code: str, error: Code, message: str) -> None:
    server = start([write_model(tmp_path, "broken", code), write_model(tmp_path, "scale", SCALE)], python_options=ON)
    state = server.settled("broken")
    assert state.state is State.END
    assert state.error.code is error
    assert message in state.error.message
    assert server.settled("scale").state is State.AVAILABLE


ASKS = """
    import numpy as np
    from pyserving import Model, Tensor, signature

    class Asks(Model):
        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return self.models["{asked}"].predict(x=x)["output_0"]

        @signature
        async def both(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, 2]:
            one = await self.models["count", 1].predict_async({{"x": x}})
            two = await self.models["count", "new"].predict_async(x=x)
            return [one["output_0"], two["output_0"]]

        @signature
        async def waits(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return self.models["count"].predict(x=x)["output_0"]
    """

VERSION = """
    import numpy as np
    from pyserving import Model, Tensor

    class Version(Model):
        def load(self, folder):
            self.version = int(folder.name)

        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32]:
            return self.version
    """


def test_models_that_ask_each_other(tmp_path: Path, start: Start) -> None:
    configs = [write_model(tmp_path, name, ASKS.format(asked=asked)) for name, asked in ("ab", "bc", "ca", "dx")]
    server = start(configs, python_options=ON)
    for name in "abcd":
        server.settled(name)
    for name, message in (
        ("d", "model x, asked by d: Servable not found for request: Latest(x)"),
        ("a", "models ask each other in a circle: c asks a asks b asks c"),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            server.call(PREDICTION + "Predict", predict_request(name, "", x=tensor(1.0)), messages.PredictResponse)
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert message in raised.value.details()


def test_versions_and_labels_of_asked_models(tmp_path: Path, start: Start) -> None:
    write_model(tmp_path, "count", VERSION, 1)
    write_model(tmp_path, "count", VERSION, 2)
    counts = ModelConfig("count", str(tmp_path / "count"), version_policy=All(), labels={"new": 2})
    configs = [counts, write_model(tmp_path, "asks", ASKS.format(asked="count"))]
    server = start(configs, python_options=ON, wait_for_models=True)
    assert server.post("asks:predict", {"inputs": [0.0], "signature_name": "both"}) == {"outputs": [1.0, 2.0]}
    with pytest.raises(AssertionError, match="model code raised RuntimeError"):
        server.post("asks:predict", {"inputs": [0.0], "signature_name": "waits"})


GATHERS = """
    import time
    import numpy as np
    from pyserving import InvalidInput, Model, Tensor, signature

    Floats = Tensor[np.float32, None]

    class Gathers(Model):
        concurrency = 1

        @signature(row_wise=True)
        def predict(self, x: Floats) -> {"y": Floats, "rows": Tensor[np.int64, None]}:
            if (x < 0).any():
                raise InvalidInput("x must not be negative")
            time.sleep(0.02)
            return {"y": x * 2, "rows": np.full(len(x), len(x))}
    """


def test_rows_are_joined_where_the_author_says_so(tmp_path: Path, start: Start) -> None:
    server = start([write_model(tmp_path, "gathers", GATHERS)], python_options=ON)
    server.settled("gathers")
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda value: server.post("gathers:predict", {"instances": [value]}), range(64)))
    assert [answer["predictions"][0]["y"] for answer in answers] == [2.0 * value for value in range(64)]
    assert max(answer["predictions"][0]["rows"] for answer in answers) > 1


def test_a_wrong_row_fails_alone(tmp_path: Path, start: Start) -> None:
    server = start([write_model(tmp_path, "gathers", GATHERS)], python_options=ON)
    server.settled("gathers")

    def ask(value: int) -> bool:
        try:
            return bool(server.post("gathers:predict", {"instances": [value]}))
        except AssertionError as error:
            return "x must not be negative" not in str(error)

    values = [-1 if position % 8 == 5 else position for position in range(40)]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, values)) == [value >= 0 for value in values]
