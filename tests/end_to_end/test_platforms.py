"""Models of every platform, in one server: the same requests over both protocols, warmup, and errors."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from asking import Ask, ask_grpc, ask_rest, call
from platform_models import BUILDERS, expected
from serving import Serving
from waiting import wait_until

from pyserving.protos import messages
from pyserving.wire.tensor_proto import write_tensor
from pyserving.wire.tfrecord import frame_record

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

X = np.array([[1, 2, 3], [4, 5, 6.5]], np.float32)
NAMES = pytest.mark.parametrize("name", BUILDERS)


@pytest.fixture(scope="module")
def server(openvino_folder: Path, tflite_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    root = tmp_path_factory.mktemp("platforms")
    config = ""
    for name, (build, platform) in BUILDERS.items():
        build(root / name / "1", openvino_folder, tflite_folder)
        request = predict_request(name)
        log = messages.PredictionLog(predict_log=messages.PredictLog(request=request))
        (root / name / "1" / "assets.extra").mkdir()
        warmup = root / name / "1" / "assets.extra" / "tf_serving_warmup_requests"
        warmup.write_bytes(frame_record(log.SerializeToString()))
        config += f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "{platform}" }} '
    (root / "models.config").write_text(f"model_config_list {{ {config} }}")
    running = Serving(f"--config={root / 'models.config'}").wait_until_ready()
    yield running
    assert running.stop() == 0


def predict_request(name: str, x: np.ndarray = X) -> messages.PredictRequest:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=name))
    request.inputs["x"].CopyFrom(messages.TensorProto.FromString(write_tensor(x)))
    return request


@NAMES
@pytest.mark.parametrize("ask", [ask_rest, ask_grpc])
def test_predict(server: Serving, name: str, ask: Ask) -> None:
    for rows in (1, 2):
        answer = ask(server, name, {"x": X[:rows]})
        np.testing.assert_allclose(answer["y"], expected(name, X[:rows]), rtol=1e-6)


@NAMES
def test_predict_by_rows(server: Serving, name: str) -> None:
    status, answer = server.post_json(f"/v1/models/{name}:predict", {"instances": X.tolist()})
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], expected(name, X), rtol=1e-6)


@NAMES
def test_metadata_shows_signatures_as_tensorflow_does(server: Serving, name: str) -> None:
    shown = server.get(f"/v1/models/{name}/metadata")[1]["metadata"]["signature_def"]["signature_def"]
    (size, three) = shown["serving_default"]["inputs"]["x"]["tensor_shape"]["dim"]
    assert (size["size"], three["size"]) == ("-1", "3")
    assert shown["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert shown["serving_default"]["method_name"] == "tensorflow/serving/predict"
    request = messages.GetModelMetadataRequest(
        model_spec=messages.ModelSpec(name=name), metadata_field=["signature_def"]
    )
    answer = call(server, "GetModelMetadata", request, messages.GetModelMetadataResponse)
    packed = messages.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(packed)
    assert [dim.size for dim in packed.signature_def["serving_default"].inputs["x"].tensor_shape.dim] == [-1, 3]


@NAMES
def test_status(server: Serving, name: str) -> None:
    (version,) = server.get(f"/v1/models/{name}")[1]["model_version_status"]
    assert version["state"] == "AVAILABLE"


@NAMES
def test_the_recorded_request_was_replayed(server: Serving, name: str) -> None:
    assert f"{{name: {name} version: 1}} is warm: 1 records" in server.log()


@NAMES
def test_a_wrong_shape_is_the_clients_error(server: Serving, name: str) -> None:
    wrong = np.zeros((1, 4), np.float32)
    status, answer = server.post_json(f"/v1/models/{name}:predict", {"inputs": {"x": wrong.tolist()}})
    assert status == 400
    with pytest.raises(grpc.RpcError) as caught:
        call(server, "Predict", predict_request(name, wrong), messages.PredictResponse)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    if name != "tensorflow":  # which has a text of its own
        assert answer["error"] == caught.value.details() == "input x must have shape [-1, 3], got [1, 4]"


@NAMES
def test_classify_needs_a_signature_for_it(server: Serving, name: str) -> None:
    status, answer = server.post_json(f"/v1/models/{name}:classify", {"examples": [{"x": [1.0, 2.0, 3.0]}]})
    assert status == 400
    assert "classif" in answer["error"].lower()


def test_broken_models_harm_no_other(
    server: Serving, openvino_folder: Path, tflite_folder: Path, tmp_path: Path
) -> None:
    for name in ("onnx", "tflite", "openvino"):
        BUILDERS[name][0](tmp_path / name / "1", openvino_folder, tflite_folder)
    BUILDERS["onnx"][0](tmp_path / "good" / "1", openvino_folder, tflite_folder)
    for file in (tmp_path / "onnx" / "1" / "model.onnx", tmp_path / "tflite" / "1" / "model.tflite"):
        file.write_bytes(file.read_bytes()[:-20])
    (tmp_path / "openvino" / "1" / "model.bin").unlink()
    running = Serving(str(tmp_path))
    try:
        reasons = (
            "is no ONNX model, or not a whole one",
            "LiteRT cannot read",
            "there is no model.bin",
            "Loaded servable {name: good",
        )
        wait_until(lambda: all(reason in running.log() for reason in reasons), running.log)
        np.testing.assert_allclose(ask_rest(running, "good", {"x": X})["y"], expected("onnx", X), rtol=1e-6)
        assert sorted(running.get("/readyz")[1]["missing"]) == ["onnx", "openvino", "tflite"]
        assert "Traceback" not in running.log()
    finally:
        assert running.stop() == 0
