"""The Open Inference Protocol as NVIDIA's own client, tritonclient, speaks it, and that its answers are those of v1."""

import json
import queue
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from model_files import write_model
from running_server import PREDICTION, RunningServer

from pyserving.core.servable import ServableRequest
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array, Signature, TensorSpec
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server.directory import Directory
from pyserving.sources.model_config import ModelConfig
from pyserving.wire.oip_tensors import DATATYPES
from pyserving.wire.tensor_proto import read_tensor, write_tensor

http = pytest.importorskip("tritonclient.http", reason="needs tritonclient")
rpc = pytest.importorskip("tritonclient.grpc", reason="needs tritonclient")
from tritonclient.utils import InferenceServerException  # noqa: E402

SERVICE = "/inference.GRPCInferenceService/"

STREAM = """
    import numpy as np
    from collections.abc import Iterator
    from pyserving import Model, Tensor, signature

    class Count(Model):
        def predict(self, x: Tensor[np.int64, None]) -> Tensor[np.int64, None]:
            return x + 1

        @signature
        def count(self, n: Tensor[np.int64]) -> Iterator[Tensor[np.int64]]:
            for i in range(int(n)):
                yield np.int64(i)
    """


@pytest.fixture(scope="module")
def server(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models = [ModelConfig(folder.name, str(folder)) for folder in sorted(models_folder.iterdir()) if folder.is_dir()]
    models.append(write_model(tmp_path_factory.mktemp("python"), "count", STREAM))
    models.append(ModelConfig("missing", str(tmp_path_factory.mktemp("empty"))))
    options = PythonOptions(PythonModels.ON)
    running = RunningServer(models, open_inference_protocol=True, python_options=options, session_service=True)
    running.server.directory.monitor.wait_until_available(
        [ServableRequest(model.name, None) for model in models if model.name != "missing"], timeout=120
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def over_http(server: RunningServer) -> Any:
    return http.InferenceServerClient(server.server.ports.rest_address, concurrency=4)


@pytest.fixture(scope="module")
def over_grpc(server: RunningServer) -> Any:
    return rpc.InferenceServerClient(server.server.ports.grpc_addresses[0])


@pytest.fixture(params=["http", "grpc"])
def kit(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """The client's module, and a client."""
    module = http if request.param == "http" else rpc
    return module, request.getfixturevalue(f"over_{request.param}")


def given(module: Any, name: str, array: Array, *, binary: bool = True) -> Any:
    made = module.InferInput(name, list(array.shape), DATATYPES[dtype_of(array)])
    if binary:
        made.set_data_from_numpy(array)
    else:
        made.set_data_from_numpy(array, binary_data=False)
    return made


def dtype_of(array: Array) -> DType:
    return next(dtype for dtype, numpy_dtype in NUMPY_OF.items() if numpy_dtype == array.dtype)


def post(server: RunningServer, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://{server.server.ports.rest_address}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def call(server: RunningServer, method: str, request: Message, kind: Any) -> Any:
    return server.call(SERVICE + method, request, kind)


def test_health_and_metadata(kit: tuple[Any, Any], server: RunningServer) -> None:
    module, client = kit
    assert client.is_server_live()
    assert not client.is_server_ready()  # as one of the models is missing
    assert client.is_model_ready("half_plus_three")
    assert client.is_model_ready("half_plus_three", "2")
    assert not client.is_model_ready("half_plus_three", "9")
    assert not client.is_model_ready("missing")
    assert not client.is_model_ready("unheard-of")
    as_json = {"as_json": True} if module is rpc else {}
    about = client.get_server_metadata(**as_json)
    assert about["name"] == "pyserving"
    assert "binary_tensor_data" in about["extensions"]
    metadata = client.get_model_metadata("half_plus_three", **as_json)
    assert metadata["versions"] == ["2"]
    shape = ["-1"] if module is rpc else [-1]
    assert metadata["platform"] == "tensorflow"
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": shape}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": shape}]


def test_index(kit: tuple[Any, Any]) -> None:
    module, client = kit
    index = client.get_model_repository_index()
    lines = (
        {(line.name, line.version): (line.state, line.reason) for line in index.models}
        if module is rpc
        else {(line["name"], line["version"]): (line["state"], line["reason"]) for line in index}
    )
    assert lines["half_plus_three", "2"] == ("READY", "")
    assert lines["missing", ""] == ("UNAVAILABLE", "no version found")


def test_index_of_what_is_ready(server: RunningServer) -> None:
    status, lines = post(server, "/v2/repository/index", b'{"ready": true}')
    assert status == 200
    assert {line["state"] for line in lines} == {"READY"}
    answer = call(
        server, "RepositoryIndex", messages.RepositoryIndexRequest(ready=True), messages.RepositoryIndexResponse
    )
    assert [(line.name, line.version) for line in answer.models] == [(line["name"], line["version"]) for line in lines]


VALUES: dict[DType, Any] = {
    DType.BOOL: [True, False, True],
    DType.HALF: [1.5, -0.25, 65504.0],
    DType.BFLOAT16: [1.5, -0.25, 3e38],
    DType.FLOAT: [1.5, -0.1, float("nan")],
    DType.DOUBLE: [1e300, -0.1, float("inf")],
    DType.STRING: [b"abc", "é".encode(), b""],
}


def values_of(dtype: DType) -> Array:
    if dtype in VALUES:
        return np.array(VALUES[dtype], NUMPY_OF[dtype]).reshape(1, 3)
    limits = np.iinfo(NUMPY_OF[dtype])
    return np.array([[limits.min, limits.max, 7]], NUMPY_OF[dtype])


@pytest.mark.parametrize("dtype", DATATYPES, ids=DATATYPES.get)
@pytest.mark.parametrize("size", [3, 0])
def test_each_dtype_comes_back(server: RunningServer, over_http: Any, over_grpc: Any, dtype: DType, size: int) -> None:
    """As raw bytes and as JSON, and in the fields of gRPC messages; and v1 answers the same."""
    x = values_of(dtype)[:, :size]
    parameters = {"signature_name": f"echo_{np.dtype(NUMPY_OF[dtype]).name if dtype != DType.STRING else 'string'}"}
    answers = {
        "http": over_http.infer("dtypes", [given(http, "x", x)], parameters=parameters).as_numpy("y"),
        "grpc": over_grpc.infer("dtypes", [given(rpc, "x", x)], parameters=parameters).as_numpy("y"),
        "v1": v1_predict(server, "dtypes", parameters["signature_name"], {"x": x})["y"],
    }
    if dtype not in (DType.HALF, DType.BFLOAT16):  # which the client sends as bytes alone
        plain = [http.InferRequestedOutput("y", binary_data=False)]
        inputs = [given(http, "x", x, binary=False)]
        answers["json"] = over_http.infer("dtypes", inputs, outputs=plain, parameters=parameters).as_numpy("y")
        if dtype == DType.STRING:
            answers["json"] = np.array([value.encode() for value in answers["json"].flat], object).reshape(x.shape)
        answers["typed"] = typed_infer(server, x, parameters["signature_name"])
    for way, answer in answers.items():
        assert answer.dtype == x.dtype, way
        assert answer.shape == x.shape, way
        assert answer.tolist() == x.tolist() or answer.tobytes() == x.tobytes(), way


def typed_infer(server: RunningServer, x: Array, signature: str) -> Array:
    """In the fields of the values' type, there and back."""
    field = {
        "b": "bool_contents", "i": "int_contents", "u": "uint_contents", "f": "fp32_contents", "O": "bytes_contents",
    }[x.dtype.kind]  # fmt: skip
    if x.dtype.itemsize == 8 and x.dtype.kind in "iuf":
        field = {"i": "int64_contents", "u": "uint64_contents", "f": "fp64_contents"}[x.dtype.kind]
    request = messages.ModelInferRequest(model_name="dtypes")
    request.parameters["signature_name"].string_param = signature
    tensor = request.inputs.add(name="x", datatype=DATATYPES[dtype_of(x)], shape=x.shape)
    getattr(tensor.contents, field).extend(x.ravel().tolist())
    answer = call(server, "ModelInfer", request, messages.ModelInferResponse)
    assert not answer.raw_output_contents
    (output,) = answer.outputs
    values = getattr(output.contents, field)
    array = np.empty(len(values), x.dtype)
    array[:] = list(values)
    return array.reshape(output.shape)


def v1_predict(server: RunningServer, model: str, signature: str, inputs: dict[str, Array]) -> dict[str, Array]:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=model, signature_name=signature))
    for name, array in inputs.items():
        request.inputs[name].ParseFromString(write_tensor(array))
    answer = server.call(PREDICTION + "Predict", request, messages.PredictResponse)
    return {name: read_tensor(proto, name) for name, proto in answer.outputs.items()}


def v1_predict_or_code(
    server: RunningServer, model: str, signature: str, inputs: dict[str, Array]
) -> dict[str, Array] | str:
    try:
        return v1_predict(server, model, signature, inputs)
    except grpc.RpcError as error:
        return str(error.code())


def v2_predict(client: Any, module: Any, model: str, signature: str, inputs: dict[str, Array]) -> dict[str, Array]:
    tensors = [given(module, name, array) for name, array in inputs.items()]
    answer = client.infer(model, tensors, parameters={"signature_name": signature})
    outputs = answer.get_response()["outputs"] if module is http else answer.get_response().outputs
    names = [output["name"] if module is http else output.name for output in outputs]
    return {name: answer.as_numpy(name) for name in names}


def example_of(spec: TensorSpec, chance: np.random.Generator) -> Array:
    shape = (2,) if spec.shape is None else tuple(2 if size is None else size for size in spec.shape)
    if spec.dtype == DType.STRING:
        strings = np.empty(shape, object)
        strings.flat[:] = [b"a%d" % i for i in range(strings.size)]
        return strings
    values: Array = chance.integers(0, 2, shape).astype(NUMPY_OF[spec.dtype])
    return values


def carried(signature: Signature) -> bool:
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    return all(spec.dtype in DATATYPES for spec in specs)


def test_v2_answers_as_v1_does(server: RunningServer, over_http: Any, over_grpc: Any) -> None:
    """Every signature of every model that leaves it as it was: the same values, or an error of the same code."""
    directory: Directory = server.server.directory
    chance = np.random.default_rng(1)
    answered = failed = 0
    for model in directory.models:
        if model.name in ("missing", "slow", "large", "text_ops"):  # the last needs a library of operations
            continue
        with directory.serving.acquire(model.name, None) as handle:
            signatures = [one for one in handle.servable.signatures.values() if one.stateless and carried(one)]
        for signature in signatures:
            inputs = {name: example_of(spec, chance) for name, spec in signature.inputs.items()}
            what = f"{model.name} {signature.name}"
            expected = v1_predict_or_code(server, model.name, signature.name, inputs)
            if isinstance(expected, str):
                with pytest.raises(InferenceServerException) as refused:
                    v2_predict(over_grpc, rpc, model.name, signature.name, inputs)
                assert refused.value.status() == expected, what
                with pytest.raises(InferenceServerException):
                    v2_predict(over_http, http, model.name, signature.name, inputs)
                failed += 1
                continue
            for client, module in ((over_http, http), (over_grpc, rpc)):
                answer = v2_predict(client, module, model.name, signature.name, inputs)
                assert answer.keys() == expected.keys(), what
                for name, array in expected.items():
                    assert answer[name].dtype == array.dtype, what
                    np.testing.assert_array_equal(answer[name], array, what)
            answered += 1
    assert answered > 40, (answered, failed)


def test_id_outputs_and_versions(kit: tuple[Any, Any]) -> None:
    module, client = kit
    x = np.array([2.0, 4.0], np.float32)
    answer = client.infer("half_plus_three", [given(module, "x", x)], request_id="some id")
    head = answer.get_response()
    assert (head["id"], head["model_version"]) == ("some id", "2") if module is http else True
    assert module is http or (head.id, head.model_version, head.model_name) == ("some id", "2", "half_plus_three")
    assert answer.as_numpy("y").tolist() == [31.0, 32.0]
    text = np.array([b"a", b"bc"], object)
    wanted = [module.InferRequestedOutput("length"), module.InferRequestedOutput("upper")]
    answer = client.infer("strings", [given(module, "text", text)], outputs=wanted)
    assert answer.as_numpy("length").tolist() == [1, 2]
    assert answer.as_numpy("upper").tolist() == [b"A", b"BC"]
    assert answer.as_numpy("copy_bytes") is None


def test_outputs_are_binary_or_not_each_by_itself(over_http: Any) -> None:
    text = np.array([b"a", b"bc"], object)
    wanted = [
        http.InferRequestedOutput("length", binary_data=False),
        http.InferRequestedOutput("copy_bytes", binary_data=True),
        http.InferRequestedOutput("upper", binary_data=False),
    ]
    answer = over_http.infer("strings", [given(http, "text", text, binary=False)], outputs=wanted)
    assert [output.get("data") for output in answer.get_response()["outputs"]] == [[1, 2], None, ["A", "BC"]]
    assert answer.as_numpy("copy_bytes").tolist() == [b"a", b"bc"]


def test_compressed(over_http: Any, over_grpc: Any) -> None:
    x = given(http, "x", np.zeros(1000, np.float32))
    answer = over_http.infer("half_plus_three", [x], request_compression_algorithm="gzip")
    assert answer.as_numpy("y")[-1] == 30.0
    with pytest.raises(InferenceServerException, match="gzip or as it is, got deflate"):
        over_http.infer("half_plus_three", [x], request_compression_algorithm="deflate")
    y = given(rpc, "x", np.zeros(1000, np.float32))
    assert over_grpc.infer("half_plus_three", [y], compression_algorithm="gzip").as_numpy("y")[-1] == 30.0


def test_large_tensors(kit: tuple[Any, Any]) -> None:
    module, client = kit
    x = np.arange(1 << 20, dtype=np.float32)
    y = client.infer("half_plus_three", [given(module, "x", x)]).as_numpy("y")
    np.testing.assert_array_equal(y, x / 2 + 30)


@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.STRING], ids=DATATYPES.get)
def test_large_messages_in_other_forms(server: RunningServer, over_grpc: Any, dtype: DType) -> None:
    """Values in the fields of their type, and strings: what is copied on a thread."""
    count = 200_000
    x = np.array([b"%d" % i for i in range(count)], object) if dtype == DType.STRING else np.arange(count, dtype="f4")
    signature = "echo_string" if dtype == DType.STRING else "echo_float32"
    answer = over_grpc.infer("dtypes", [given(rpc, "x", x)], parameters={"signature_name": signature}).as_numpy("y")
    np.testing.assert_array_equal(answer, x)
    np.testing.assert_array_equal(typed_infer(server, x, signature), x)


def test_asynchronous(over_http: Any, over_grpc: Any) -> None:
    x = np.array([2.0], np.float32)
    waiting = [over_http.async_infer("half_plus_three", [given(http, "x", x + i)]) for i in range(8)]
    assert [float(one.get_result().as_numpy("y")[0]) for one in waiting] == [31 + i / 2 for i in range(8)]
    done: queue.Queue[Any] = queue.Queue()
    over_grpc.async_infer(
        "half_plus_three", [given(rpc, "x", x)], callback=lambda result, error: done.put((result, error))
    )
    result, error = done.get(timeout=60)
    assert error is None
    assert result.as_numpy("y").tolist() == [31.0]


def only_output(result: Any) -> Array:
    (output,) = result.get_response().outputs
    array: Array = result.as_numpy(output.name)
    return array


def test_streams(server: RunningServer) -> None:
    """Several answers for one request, an error that does not end the stream, and a request after it."""
    client = rpc.InferenceServerClient(server.server.ports.grpc_addresses[0])
    came: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: came.put((result, error)))
    n = given(rpc, "n", np.array(3, np.int64))
    client.async_stream_infer(
        "count", [n], parameters={"signature_name": "count"}, request_id="1", enable_empty_final_response=True
    )
    client.async_stream_infer("unheard-of", [n], request_id="2")
    client.async_stream_infer("count", [given(rpc, "x", np.array([4], np.int64))], request_id="3")
    pieces = [came.get(timeout=60) for _ in range(6)]
    client.stop_stream()
    assert [int(only_output(result)) for result, _ in pieces[:3]] == [0, 1, 2]
    final = pieces[3][0].get_response()
    assert final.parameters["triton_final_response"].bool_param
    assert not final.outputs
    assert "unheard-of" in str(pieces[4][1])
    assert only_output(pieces[5][0]).tolist() == [5]


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"name": "z"}, 400, "Expected the inputs x, got also z"),
        ({"datatype": "FP31"}, 400, "expected a datatype out of BOOL, .* got 'FP31'"),
        ({"datatype": "FP64"}, 400, "input x: expected FP32, got FP64"),
        ({"shape": [3]}, 400, r"input x: expected 3 values for shape \[3\], got 2"),
        ({"shape": [-2]}, 400, "expected no negative size"),
        ({"shape": [1 << 62, 4]}, 429, "no memory holds"),
        ({"shape": "2"}, 400, "expected shape to be a list of whole numbers"),
        ({"data": [1.0, [2.0]]}, 400, "lists of one length"),
        ({"data": [1.0, "2"]}, 400, "expected values of FP32, got '2'"),
        ({"data": [1.0, None]}, 400, "expected values of FP32, got nothing"),
        ({"data": 1.0}, 400, "expected data to be a list"),
        ({"parameters": {"binary_data_size": 8}}, 400, "expected data or binary_data_size, got both"),
        ({"parameters": {"shared_memory_region": "a"}}, 501, "shared memory is not supported"),
    ],
)
def test_bad_inputs(server: RunningServer, changes: dict[str, Any], status: int, text: str) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}
    path = "/v2/models/half_plus_three/infer"
    assert post(server, path, json.dumps({"inputs": [x]}).encode())[0] == 200
    code, answer = post(server, path, json.dumps({"inputs": [x | changes]}).encode())
    assert code == status, answer
    assert re.search(text, answer["error"]), answer


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "JSON"),
        (b'{"inputs": {}}', 400, "expected inputs to be a list of objects"),
        (b'{"inputs": []}', 400, "expected the inputs x, got no x"),
        (b'{"id": 1, "inputs": []}', 400, "expected id to be a string, got 1"),
        (b'{"inputs": [X, X]}', 400, "input x: expected once, got twice"),
        (b'{"inputs": [X], "outputs": [{"name": "z"}]}', 400, "output tensor alias not found in signature: z"),
        (b'{"inputs": [X], "outputs": [{"name": "y"}, {"name": "y"}]}', 400, "duplicate output"),
        (b'{"inputs": [X], "parameters": {"signature_name": "other"}}', 400, "expected a signature out of "),
        (b'{"inputs": [X], "parameters": {"sequence_id": 5}}', 501, "sequences are not supported"),
        (b'{"inputs": [X], "parameters": {"timeout": "1 s"}}', 400, "number of microseconds"),
        (b'{"inputs": [X], "outputs": [{"name": "y", "parameters": {"classification": 2}}]}', 501, "classification"),
    ],
)
def test_bad_requests(server: RunningServer, body: bytes, status: int, text: str) -> None:
    x = b'{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}'
    code, answer = post(server, "/v2/models/half_plus_three/infer", body.replace(b"X", x))
    assert code == status, answer
    assert text.lower() in answer["error"].lower()


@pytest.mark.parametrize(
    ("size", "raw", "header", "text"),
    [
        (8, 7, None, "expected 8 bytes of binary data after the JSON, got 7"),
        (8, 9, None, "expected 8 bytes of binary data after the JSON, got 9"),
        (4, 4, None, r"expected 8 bytes for FP32 of shape [2], got 4"),
        (8, 8, "100000", "at most"),
        (8, 8, "-1", "to be a number of bytes"),
        (8, 8, "ten", "to be a number of bytes"),
    ],
)
def test_bad_binary_data(server: RunningServer, size: int, raw: int, header: str | None, text: str) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [x]}).encode()
    length = {"Inference-Header-Content-Length": header or str(len(head))}
    code, answer = post(server, "/v2/models/half_plus_three/infer", head + bytes(raw), **length)
    assert code == 400
    assert text.lower() in answer["error"].lower()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/unheard-of/infer", 404),
        ("/v2/models/half_plus_three/versions/9/infer", 404),
        ("/v2/models/half_plus_three/versions/99999999999999999999/infer", 400),
        ("/v2/models/half_plus_three/versions/no-label/infer", 400),
        ("/v2/models/half_plus_three:infer", 404),
        ("/v2/nothing", 404),
        ("/v3/models/half_plus_three/infer", 404),
    ],
)
def test_what_is_not_there(server: RunningServer, path: str, status: int) -> None:
    x = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}'
    assert post(server, path, x)[0] == status


def grpc_error(server: RunningServer, request: messages.ModelInferRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call(server, "ModelInfer", request, messages.ModelInferResponse)
    return refused.value.code(), refused.value.details()


def test_bad_messages(server: RunningServer) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT

    def made(**changes: Any) -> messages.ModelInferRequest:
        request = messages.ModelInferRequest(model_name="half_plus_three")
        request.inputs.add(**{"name": "x", "datatype": "FP32", "shape": [2]} | changes)
        return request

    request = made()
    request.raw_input_contents.append(bytes(8))
    assert call(server, "ModelInfer", request, messages.ModelInferResponse).outputs[0].name == "y"
    request.inputs[0].contents.fp32_contents.extend([1, 2])
    assert grpc_error(server, request) == (
        invalid,
        "input x: expected contents or raw_input_contents, got both",
    )
    request = made()
    request.raw_input_contents.extend([bytes(8), bytes(8)])
    assert grpc_error(server, request) == (invalid, "Expected raw_input_contents for each of the 1 inputs, got 2")
    request = made()
    request.inputs[0].contents.int_contents.extend([1, 2])
    assert grpc_error(server, request) == (invalid, "input x: expected FP32 in fp32_contents, got int_contents")
    request = made()
    request.inputs[0].contents.fp32_contents.append(1)
    assert grpc_error(server, request)[1] == "input x: expected 2 values in fp32_contents for shape [2], got 1"
    request = made(datatype="FP16")
    assert grpc_error(server, request)[1] == "input x: expected FP16 in raw_input_contents, got none"
    request = made(datatype="INT8")
    request.inputs[0].contents.int_contents.extend([1, 200])
    assert grpc_error(server, request)[1] == "input x: expected values of INT8, of which 200 is out of range"
    request = messages.ModelInferRequest(model_name="unheard-of")
    assert grpc_error(server, request)[0] is grpc.StatusCode.NOT_FOUND
    request = messages.ModelInferRequest(model_name="dtypes")
    request.parameters["signature_name"].string_param = "echo_complex64"
    request.inputs.add(name="x", datatype="FP32", shape=[0])
    assert grpc_error(server, request)[1] == "input x: expected complex64, got FP32"
    with pytest.raises(grpc.RpcError) as refused:
        server.channel.unary_unary(SERVICE + "ModelInfer")(b"\xff\xff", timeout=60)
    assert refused.value.code() is grpc.StatusCode.INTERNAL


def test_a_time_limit_of_the_request(server: RunningServer, over_http: Any) -> None:
    x = given(http, "x", np.array([1.0], np.float32))
    with pytest.raises(InferenceServerException) as late:
        over_http.infer("half_plus_three", [x], timeout=1)  # a microsecond
    assert late.value.status() == "504"


def test_off_by_default(server: RunningServer, models_folder: Path) -> None:
    other = RunningServer([])
    try:
        assert post(other, "/v2/repository/index", b"")[0] == 404
        with pytest.raises(grpc.RpcError) as refused:
            call(other, "ServerLive", messages.ServerLiveRequest(), messages.ServerLiveResponse)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        other.stop()


def test_it_is_counted(server: RunningServer, over_grpc: Any) -> None:
    name = ':tensorflow:serving:request_count{model_name="half_plus_three",status="OK"}'
    before = server.metrics()[name]
    over_grpc.infer("half_plus_three", [given(rpc, "x", np.array([1.0], np.float32))])
    assert server.metrics()[name] == before + 1
