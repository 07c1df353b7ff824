"""--enable_signature_method_name_check: a signature is used for what it was made for."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from running_server import PREDICTION, RunningServer, example, examples, predict_request, tensor

from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@pytest.fixture
def server(start: Callable[..., RunningServer], model_dir: Callable[[str], Path]) -> RunningServer:
    names = ("half_plus_two", "flowers", "strange_method")
    running = start([ModelConfig(name, str(model_dir(name))) for name in names], check_method_names=True)
    for name in names:
        running.settled(name)
    return running


def failure(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def classify(server: RunningServer, name: str, signature: str = "") -> Any:
    spec = messages.ModelSpec(name=name, signature_name=signature)
    request = messages.ClassificationRequest(model_spec=spec, input=examples(example(x=2.0)))
    return server.call(PREDICTION + "Classify", request, messages.ClassificationResponse)


def regress(server: RunningServer, name: str, signature: str = "") -> Any:
    spec = messages.ModelSpec(name=name, signature_name=signature)
    request = messages.RegressionRequest(model_spec=spec, input=examples(example(x=2.0)))
    return server.call(PREDICTION + "Regress", request, messages.RegressionResponse)


def predict(server: RunningServer, name: str, signature: str = "") -> Any:
    request = predict_request(name, signature, x=tensor(2.0))
    return server.call(PREDICTION + "Predict", request, messages.PredictResponse)


def test_what_fits_is_answered(server: RunningServer) -> None:
    assert classify(server, "half_plus_two", "classify_x_to_y").result.classifications[0].classes[0].score == 3.0
    assert regress(server, "half_plus_two", "regress_x_to_y").result.regressions[0].value == 3.0


def test_what_does_not_fit(server: RunningServer) -> None:
    """The texts are the real server's."""
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert failure(lambda: classify(server, "flowers")) == (
        invalid,
        f"Expected classification signature method_name to be {CLASSIFY}. Was: tensorflow/serving/predict",
    )
    assert failure(lambda: regress(server, "half_plus_two", "classify_x_to_y")) == (
        invalid,
        f"Expected regression signature method_name to be {REGRESS}. Was: {CLASSIFY}",
    )
    assert failure(lambda: predict(server, "strange_method")) == (
        grpc.StatusCode.INTERNAL,
        "Expected prediction signature method_name to be one of "
        f"{{tensorflow/serving/predict, {CLASSIFY}, {REGRESS}}}. Was: tensorflow/serving/strange",
    )


def test_multi_inference(server: RunningServer) -> None:
    request = messages.MultiInferenceRequest(input=examples(example(x=2.0)))
    spec = messages.ModelSpec(name="half_plus_two", signature_name="classify_x_to_y")
    request.tasks.add(model_spec=spec, method_name=REGRESS)
    code, text = failure(lambda: server.call(PREDICTION + "MultiInference", request, messages.MultiInferenceResponse))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == f"Expected regression signature method_name to be {REGRESS}. Was: {CLASSIFY}"


def test_rest(server: RunningServer) -> None:
    url = f"http://{server.server.ports.rest_address}/v1/models/strange_method:predict"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, json.dumps({"instances": [2.0]}).encode(), timeout=30)
    assert caught.value.code == 500
    assert json.load(caught.value)["error"].endswith("Was: tensorflow/serving/strange")


def test_without_the_check_anything_goes(start: Callable[..., RunningServer], model_dir: Callable[[str], Path]) -> None:
    server = start([ModelConfig("strange_method", str(model_dir("strange_method")))])
    server.settled("strange_method")
    assert list(predict(server, "strange_method").outputs["y"].float_val) == [4.0]
