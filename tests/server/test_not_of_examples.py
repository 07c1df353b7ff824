"""Classify and Regress where a signature does not take tf.Examples: they are fed serialized ones all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from running_server import PREDICTION, RunningServer, example, examples, predict_request, tensor

from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig


@pytest.fixture
def server(start: Callable[..., RunningServer], model_dir: Callable[[str], Path]) -> RunningServer:
    running = start([ModelConfig("m", str(model_dir("classify_numbers")))], check_method_names=True)
    running.settled("m")
    return running


def ask(server: RunningServer, method: str, request: Any, response: Any, signature: str = "") -> Any:
    spec = messages.ModelSpec(name="m", signature_name=signature)
    return server.call(PREDICTION + method, request(model_spec=spec, input=examples(example(x=1.0))), response)


@pytest.mark.parametrize(
    ("method", "request_type", "response_type", "signature"),
    [
        ("Classify", messages.ClassificationRequest, messages.ClassificationResponse, ""),
        ("Regress", messages.RegressionRequest, messages.RegressionResponse, "regress"),
    ],
)
def test_numbers_are_refused_by_tensorflow(
    server: RunningServer, method: str, request_type: Any, response_type: Any, signature: str
) -> None:
    """As in the real server, which looks at the names of a signature's inputs, not at their types."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, method, request_type, response_type, signature)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "string" in caught.value.details()


def test_text_of_any_kind_gets_the_serialized_example(server: RunningServer) -> None:
    answer = ask(server, "Regress", messages.RegressionRequest, messages.RegressionResponse, "length")
    assert answer.result.regressions[0].value == len(example(x=1.0).SerializeToString())


def test_predict_takes_the_numbers_themselves(server: RunningServer) -> None:
    asked = predict_request("m", inputs=tensor(1.0, 2.0, shape=[1, 2]))
    answer = server.call(PREDICTION + "Predict", asked, messages.PredictResponse)
    assert list(answer.outputs["scores"].float_val) == [1.0, 4.0]
    assert server.post("m:predict", {"instances": [[1.0, 2.0]]}) == {"predictions": [[1.0, 4.0]]}
