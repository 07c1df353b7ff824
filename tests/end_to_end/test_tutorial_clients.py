"""What TensorFlow Serving's tutorials tell people to type, against this server: nothing in it is changed but ports."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from serving import Serving


@pytest.fixture(scope="module")
def server(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    models = ("dims", "half_plus_two", "half_plus_two_tf2", "strings", "versioned")
    entry = 'config {{ name: "{0}" base_path: "{1}/{0}" model_platform: "tensorflow" }}'
    config = tmp_path_factory.mktemp("tutorials") / "models.config"
    config.write_text(f"model_config_list {{ {' '.join(entry.format(name, models_folder) for name in models)} }}")
    running = Serving("--config", str(config)).wait_until_ready()
    yield running
    assert running.stop() == 0


def run(command: list[str], **options: str) -> str:
    """What a command prints. TensorFlow stays out of the process of the tests this way."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", ["", "/versions/3"])
def test_requests_and_json(server: Serving, version: str) -> None:
    data = json.dumps({"signature_name": "serving_default", "instances": [1.0, 2.0, 5.0]})
    headers = {"content-type": "application/json"}
    json_response = requests.post(
        f"http://localhost:{server.rest}/v1/models/versioned{version}:predict", data=data, headers=headers, timeout=30
    )
    predictions = json.loads(json_response.text)["predictions"]
    assert predictions == [{"version": 3, "y": value + 30.0} for value in (1.0, 2.0, 5.0)]


def test_requests_with_encoded_bytes(server: Serving) -> None:
    predict_request = '{"instances" : [{"b64": "%s"}]}' % "aGVsbG8="  # noqa: UP031 - as resnet_client.py has it
    response = requests.post(
        f"http://localhost:{server.rest}/v1/models/strings:predict", data=predict_request, timeout=30
    )
    response.raise_for_status()
    assert response.json()["predictions"] == [{"copy_bytes": {"b64": "aGVsbG8="}, "length": 5, "upper": "HELLO"}]


def test_status_and_metadata_by_requests(server: Serving) -> None:
    url = f"http://localhost:{server.rest}/v1/models/half_plus_two_tf2"
    (status,) = requests.get(url, timeout=30).json()["model_version_status"]
    assert status == {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    metadata = requests.get(f"{url}/metadata", timeout=30).json()
    assert metadata["model_spec"] == {"name": "half_plus_two_tf2", "signature_name": "", "version": "1"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("model", ["half_plus_two_tf2", "half_plus_two"])
def test_curl(server: Serving, model: str) -> None:
    instances = "[1.0, 2.0, 5.0]" if model == "half_plus_two_tf2" else "[[1.0], [2.0], [5.0]]"
    url = f"http://localhost:{server.rest}/v1/models/{model}:predict"
    answer = json.loads(run(["curl", "-s", "-d", f'{{"instances": {instances}}}', "-X", "POST", url]))
    expected = [2.5, 3.0, 4.5]
    assert answer == {"predictions": expected if model == "half_plus_two_tf2" else [[value] for value in expected]}


GRPC_CLIENT = """
import sys

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

channel = grpc.insecure_channel(sys.argv[1])
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

request = predict_pb2.PredictRequest()
request.model_spec.name = "dims"
request.model_spec.signature_name = "serving_default"
data = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
request.inputs["x"].CopyFrom(tf.make_tensor_proto(data, shape=[2, 2, 3]))
for result in (stub.Predict(request, 10.0), stub.Predict.future(request, 10.0).result()):
    np.testing.assert_array_equal(tf.make_ndarray(result.outputs["doubled"]), 2 * data)
    np.testing.assert_array_equal(tf.make_ndarray(result.outputs["total"]), data.sum((1, 2)))

request = predict_pb2.PredictRequest()
request.model_spec.name = "strings"
request.inputs["text"].CopyFrom(tf.make_tensor_proto([b"abc", "\\u00e9".encode()]))
result = stub.Predict(request, 10.0)
assert tf.make_ndarray(result.outputs["copy_bytes"]).tolist() == [b"abc", "\\u00e9".encode()]

request = get_model_metadata_pb2.GetModelMetadataRequest()
request.model_spec.name = "dims"
request.metadata_field.append("signature_def")
metadata = stub.GetModelMetadata(request, 10.0).metadata["signature_def"]
signatures = get_model_metadata_pb2.SignatureDefMap()
assert metadata.Unpack(signatures)
assert signatures.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum

request = get_model_status_pb2.GetModelStatusRequest()
request.model_spec.name = "dims"
status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, 10.0)
assert [entry.state for entry in status.model_version_status] == [get_model_status_pb2.ModelVersionStatus.AVAILABLE]

request = predict_pb2.PredictRequest()
request.model_spec.name = "nobody"
try:
    stub.Predict(request, 10.0)
except grpc.RpcError as error:
    assert error.code() is grpc.StatusCode.NOT_FOUND
else:
    sys.exit("a model that is not there answered")
print("all is well")
"""


def test_stubs_of_tensorflow_serving_api(server: Serving) -> None:
    assert run([sys.executable, "-c", GRPC_CLIENT, f"localhost:{server.grpc}"]) == "all is well\n"


def test_saved_model_cli_shows_the_signatures_that_we_serve(server: Serving, models_folder: Path) -> None:
    tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    folder = models_folder / "half_plus_two" / "00000123"
    shown = run([*tool, "show", "--dir", str(folder), "--tag_set", "serve"])
    names = {line.split('"')[1] for line in shown.splitlines() if line.startswith("SignatureDef key")}
    assert len(names) >= 4
    _, answer = server.get("/v1/models/half_plus_two/metadata")
    assert set(answer["metadata"]["signature_def"]["signature_def"]) == names
