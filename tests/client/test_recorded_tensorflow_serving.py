"""The client beside TensorFlow Serving itself: what that server (2.21) answered was recorded, and is played back here.

``recorded_answers.json`` has requests and answers as they were on the wire. The client makes each request anew. It must
be what was recorded, so that the real server would have answered it so; then the client reads the answer.
"""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from pyserving import Client, ServingError
from pyserving.core.errors import Code
from pyserving.protos import messages

Case = dict[str, Any]

CASES: list[Case] = json.loads((Path(__file__).parent / "recorded_answers.json").read_text())
HTTP_CODES = {400: Code.INVALID_ARGUMENT, 404: Code.NOT_FOUND, 501: Code.UNIMPLEMENTED}
FIELDS = {1: "float_val", 2: "double_val", 3: "int_val", 7: "string_val", 9: "int64_val", 10: "bool_val"}
TYPES = {1: np.float32, 2: np.float64, 3: np.int32, 7: object, 9: np.int64, 10: np.bool_}


def cases(*areas: str, good: bool) -> list[Any]:
    found = [case for case in CASES if case["id"].split("/")[0] in areas]
    return [
        pytest.param(case, id=case["id"])
        for case in found
        if (case.get("code", case.get("status")) in ("OK", 200)) is good
    ]


class Recorded:
    """Answers metadata as recorded, of any version, and else with the answer of ``case``; notes what was asked."""

    def __init__(self) -> None:
        self.case: Case = {}
        self.asked: list[bytes] = []
        self._metadata = {}
        for case in CASES:
            if case["id"].startswith("grpc.metadata/"):
                request = messages.GetModelMetadataRequest.FromString(base64.b64decode(case["request"]))
                self._metadata["grpc", request.model_spec.name] = case
            elif case["id"].startswith("rest.metadata/"):
                self._metadata["rest", case["path"].split("/")[3]] = case

    def grpc_answer(self, method: str, body: bytes) -> Case:
        if method.endswith("GetModelMetadata"):
            return self._metadata["grpc", messages.GetModelMetadataRequest.FromString(body).model_spec.name]
        assert method == self.case["method"]
        self.asked.append(body)
        return self.case

    def rest_answer(self, path: str, body: bytes) -> Case:
        if path.endswith("/metadata"):
            model = path.split("/")[3]
            return self._metadata.get(("rest", model)) or self._as_json(self._metadata["grpc", model])
        assert path == self.case["path"]
        self.asked.append(body)
        return self.case

    def _as_json(self, case: Case) -> Case:
        """For models whose metadata was recorded over gRPC alone."""
        answer = messages.GetModelMetadataResponse.FromString(base64.b64decode(case["answer"]))
        signatures = messages.SignatureDefMap.FromString(answer.metadata["signature_def"].value)
        document = json_format.MessageToDict(
            signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return {
            "status": 200,
            "answer": json.dumps({"model_spec": {"version": "1"}, "metadata": {"signature_def": document}}),
        }


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture(scope="module")
def grpc_address(recorded: Recorded) -> Iterator[str]:
    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
                case = recorded.grpc_answer(details.method, body)
                if case["code"] != "OK":
                    context.abort(grpc.StatusCode[case["code"]], case["message"])
                return base64.b64decode(case["answer"])

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def grpc_client(grpc_address: str) -> Iterator[Client]:
    with Client(grpc_address, retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def rest_client(recorded: Recorded) -> Iterator[Client]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            case = recorded.rest_answer(self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
            data = case["answer"].encode()
            self.send_response(case["status"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    with Client(f"http://127.0.0.1:{server.server_port}", retries=0) as client:
        yield client
    server.shutdown()


def array_of(tensor: messages.TensorProto) -> np.ndarray[Any, Any]:
    """Read by hand: neither the client's nor the server's way."""
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, TYPES[tensor.dtype]).reshape(shape)
    values = list(getattr(tensor, FIELDS[tensor.dtype]))
    size = int(np.prod(shape, dtype=int))
    values += values[-1:] * (size - len(values)) or ([0] * size if not values else [])
    made = np.empty(size, TYPES[tensor.dtype])
    made[:] = values
    return made.reshape(shape)


def place_of(spec: Any) -> dict[str, Any]:
    if spec.version_label:
        return {"label": spec.version_label}
    return {"version": spec.version.value} if spec.HasField("version") else {}


def plain(value: Any) -> Any:
    """JSON with strings, and what stands for them in base64, as bytes."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        if value.keys() == {"b64"}:
            return base64.b64decode(value["b64"])
        return {name: plain(one) for name, one in value.items()}
    return value


def same(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("case", cases("grpc.predict", "grpc.predict.types", good=True))
def test_predict_over_grpc(recorded: Recorded, grpc_client: Client, case: Case) -> None:
    recorded.case, recorded.asked = case, []
    request = messages.PredictRequest.FromString(base64.b64decode(case["request"]))
    expected = messages.PredictResponse.FromString(base64.b64decode(case["answer"]))
    spec = request.model_spec
    arrays = {name: array_of(tensor) for name, tensor in request.inputs.items()}
    answer = grpc_client.predict(
        spec.name,
        arrays,
        signature=spec.signature_name or "serving_default",
        outputs=list(request.output_filter),
        **place_of(spec),
    )
    (body,) = recorded.asked
    sent = messages.PredictRequest.FromString(body)
    assert (sent.model_spec.name, place_of(sent.model_spec)) == (spec.name, place_of(spec))
    assert sent.output_filter == request.output_filter
    for name, array in arrays.items():
        same(array_of(sent.inputs[name]), array)
    assert answer.keys() == expected.outputs.keys()
    for name, tensor in expected.outputs.items():
        same(answer[name], array_of(tensor))
    assert answer.version == expected.model_spec.version.value


@pytest.mark.parametrize("case", cases("rest.predict.column", good=True))
def test_predict_over_rest(recorded: Recorded, rest_client: Client, case: Case) -> None:
    recorded.case, recorded.asked = case, []
    request = json.loads(case["body"])
    model = case["path"].split("/")[3].partition(":")[0]
    signature = request.get("signature_name", "serving_default")
    specs = rest_client.metadata(model).signatures[signature]
    given = request["inputs"]
    if not isinstance(given, dict) or given.keys() == {"b64"}:
        given = {next(iter(specs.inputs)): given}
    if "zzz" in given:
        pytest.skip("the client does not send inputs that the signature has not got")

    answer = rest_client.predict(model, {name: plain(value) for name, value in given.items()}, signature=signature)
    (body,) = recorded.asked
    sent = json.loads(body)
    assert sent["signature_name"] == signature
    assert plain(sent["inputs"]) == plain(given)
    outputs = json.loads(case["answer"])["outputs"]
    if len(specs.outputs) == 1:
        outputs = {next(iter(specs.outputs)): outputs}
    assert answer.keys() == outputs.keys()
    for name, value in outputs.items():
        assert answer[name].tolist() == plain(value)


@pytest.mark.parametrize("case", cases("grpc.status", good=True))
def test_status_over_grpc(recorded: Recorded, grpc_client: Client, case: Case) -> None:
    recorded.case, recorded.asked = case, []
    spec = messages.GetModelStatusRequest.FromString(base64.b64decode(case["request"])).model_spec
    expected = messages.GetModelStatusResponse.FromString(base64.b64decode(case["answer"]))
    states = grpc_client.status(spec.name, **place_of(spec))
    assert [(one.version, one.state) for one in states] == [
        (one.version, messages.ModelVersionStatus.State.Name(one.state)) for one in expected.model_version_status
    ]


@pytest.mark.parametrize("case", cases("rest.status", good=True))
def test_status_over_rest(recorded: Recorded, rest_client: Client, case: Case) -> None:
    recorded.case, recorded.asked = case, []
    _, _, _, model, *place = (unquote(part) for part in case["path"].split("/"))
    where: dict[str, Any] = {}
    if place:
        where = {"version": int(place[1])} if place[0] == "versions" else {"label": place[1]}
    states = rest_client.status(model, **where)
    expected = json.loads(case["answer"])["model_version_status"]
    assert [(one.version, one.state) for one in states] == [(int(one["version"]), one["state"]) for one in expected]


def examples_of(request: Any) -> list[dict[str, Any]]:
    lists = {"bytes_list", "float_list", "int64_list"}
    found = []
    for example in request.input.example_list.examples:
        features = {}
        for name, feature in example.features.feature.items():
            kind = feature.WhichOneof("kind")
            assert kind in lists
            features[name] = list(getattr(feature, kind).value)
        found.append(features)
    return found


@pytest.mark.parametrize("case", cases("grpc.classify", "grpc.regress", good=True))
def test_classify_and_regress_over_grpc(recorded: Recorded, grpc_client: Client, case: Case) -> None:
    recorded.case, recorded.asked = case, []
    if case["method"].endswith("Classify"):
        request = messages.ClassificationRequest.FromString(base64.b64decode(case["request"]))
    else:
        request = messages.RegressionRequest.FromString(base64.b64decode(case["request"]))
    if request.input.HasField("example_list_with_context"):
        pytest.skip("the client puts what examples share into each of them")
    spec = request.model_spec
    place = place_of(spec)
    if case["method"].endswith("Classify"):
        response = messages.ClassificationResponse.FromString(base64.b64decode(case["answer"]))
        classes = grpc_client.classify(spec.name, examples_of(request), signature=spec.signature_name, **place)
        assert [[(one.label, one.score) for one in each] for each in classes] == [
            [(one.label, one.score) for one in each.classes] for each in response.result.classifications
        ]
    else:
        response = messages.RegressionResponse.FromString(base64.b64decode(case["answer"]))
        values = grpc_client.regress(spec.name, examples_of(request), signature=spec.signature_name, **place)
        assert values.tolist() == [one.value for one in response.result.regressions]
    (body,) = recorded.asked
    assert examples_of(type(request).FromString(body)) == examples_of(request)


@pytest.mark.parametrize("case", cases("rest.classify", "rest.regress", good=True))
def test_classify_and_regress_over_rest(recorded: Recorded, rest_client: Client, case: Case) -> None:
    recorded.case, recorded.asked = case, []
    request = json.loads(case["body"])
    if "context" in request:
        pytest.skip("the client puts what examples share into each of them")
    results = json.loads(case["answer"])["results"]
    model, *place = case["path"].rpartition(":")[0].split("/")[3:]
    where = {"version": int(place[1])} if place[:1] == ["versions"] else {"label": place[1]} if place else {}
    examples = [
        {name: base64.b64decode(value["b64"]) if isinstance(value, dict) else value for name, value in example.items()}
        for example in request["examples"]
        if all(not isinstance(value, list) or not isinstance(value[0], dict) for value in example.values())
    ]
    if len(examples) != len(request["examples"]) or any(
        isinstance(value, bool) for example in examples for value in example.values()
    ):
        pytest.skip("the same is asked for by another case")
    signature = request.get("signature_name", "")
    if case["path"].endswith(":classify"):
        classes = rest_client.classify(model, examples, signature=signature, **where)
        assert [[[one.label, one.score] for one in each] for each in classes] == results
    else:
        np.testing.assert_array_equal(
            rest_client.regress(model, examples, signature=signature, **where), np.array(results, np.float32)
        )


@pytest.mark.parametrize("case", cases("grpc.multi", good=True))
def test_multi_inference(recorded: Recorded, grpc_client: Client, case: Case) -> None:
    recorded.case, recorded.asked = case, []
    request = messages.MultiInferenceRequest.FromString(base64.b64decode(case["request"]))
    if request.input.HasField("example_list_with_context"):
        pytest.skip("the client puts what examples share into each of them")
    response = messages.MultiInferenceResponse.FromString(base64.b64decode(case["answer"]))
    tasks = [(task.method_name.rpartition("/")[2], task.model_spec.signature_name) for task in request.tasks]
    results = grpc_client.multi_inference(request.tasks[0].model_spec.name, tasks, examples_of(request))
    assert len(results) == len(response.results)
    for found, expected in zip(results, response.results, strict=True):
        if expected.HasField("regression_result"):
            assert isinstance(found, np.ndarray)
            assert found.tolist() == [one.value for one in expected.regression_result.regressions]
        else:
            assert isinstance(found, list)
            assert [[(one.label, one.score) for one in each] for each in found] == [
                [(one.label, one.score) for one in each.classes]
                for each in expected.classification_result.classifications
            ]


@pytest.mark.parametrize("case", cases("grpc.predict.errors", "grpc.classify", "grpc.status", good=False))
def test_errors_over_grpc(recorded: Recorded, grpc_client: Client, case: Case) -> None:
    recorded.case = case

    def ask() -> object:
        if case["method"].endswith("Predict"):
            return grpc_client.predict("half_plus_two_tf2", [1.0])
        if case["method"].endswith("Classify"):
            return grpc_client.classify("half_plus_two", [{"x": 1.0}])
        return grpc_client.status("half_plus_two")

    with pytest.raises(ServingError) as caught:
        ask()
    assert (caught.value.code.name, caught.value.message) == (case["code"], case["message"])


@pytest.mark.parametrize(
    ("code", "retries", "sent"), [("UNAVAILABLE", 0, 1), ("UNAVAILABLE", 2, 3), ("INVALID_ARGUMENT", 2, 1)]
)
def test_how_often_a_call_is_sent(recorded: Recorded, grpc_address: str, code: str, retries: int, sent: int) -> None:
    """As often on the caller's own thread, where it goes once the signature is known, as by way of the event loop."""
    good = next(
        case
        for case in CASES
        if case["id"] == "grpc.predict.types/half_plus_two_tf2"
        or (case["id"].startswith("grpc.predict/") and "half_plus_two_tf2" in str(base64.b64decode(case["request"])))
    )
    bad = {"id": "", "method": good["method"], "code": code, "message": "no", "answer": ""}
    with Client(grpc_address, retries=retries) as client:
        for case, expected in ((bad, sent), (good, 1), (bad, sent)):
            recorded.case, recorded.asked = case, []
            if case is good:
                client.predict("half_plus_two_tf2", [1.0])
            else:
                with pytest.raises(ServingError, match="no"):
                    client.predict("half_plus_two_tf2", [1.0])
            assert len(recorded.asked) == expected


@pytest.mark.parametrize("case", cases("rest.predict.errors", "rest.url", "rest.status", good=False))
def test_errors_over_rest(recorded: Recorded, rest_client: Client, case: Case) -> None:
    answer = {**case, "path": "/v1/models/half_plus_two_tf2:predict"}
    recorded.case = answer
    with pytest.raises(ServingError) as caught:
        rest_client.predict("half_plus_two_tf2", [1.0])
    assert caught.value.message == json.loads(case["answer"])["error"]
    assert caught.value.code is HTTP_CODES[case["status"]]
