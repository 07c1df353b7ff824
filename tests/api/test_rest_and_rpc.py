"""Both fronts over a real manager and a model in Python: what a request meets between the wire and the engine."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from pyserving.api.exchange import HttpRequest, HttpResponse, RpcContext
from pyserving.api.health import Health
from pyserving.api.models import Models
from pyserving.api.rest import RestApi
from pyserving.api.rpc import RpcApi
from pyserving.api.status import StatusApi
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError
from pyserving.core.events import EventBus
from pyserving.core.labels import VersionLabels
from pyserving.core.manager import Manager
from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.resources import Resources
from pyserving.core.servable import ServableId, ServableRequest
from pyserving.core.source import AspiredVersion
from pyserving.monitoring.metrics import Distribution
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Signature, TensorSpec
from pyserving.protos import messages


class ScaleModel:
    """``y = x * scale + version``; ``scale`` may be left out."""

    def __init__(self, version: int) -> None:
        self._version = version
        x = TensorSpec("x", "x:0", DType.FLOAT, (None,))
        scale = TensorSpec("scale", "scale:0", DType.FLOAT, ())
        text = TensorSpec("inputs", "inputs:0", DType.STRING, (None,))
        outputs = {"y": TensorSpec("y", "y:0", DType.FLOAT, (None,)), "n": TensorSpec("n", "n:0", DType.INT64, ())}
        one = {"scores": TensorSpec("scores", "s:0", DType.FLOAT, (None, 1))}
        self.signatures = {
            "serving_default": Signature(
                "serving_default", {"x": x, "scale": scale}, outputs, defaults={"scale": np.float32(2).reshape(())}
            ),
            "plain": Signature("plain", {"x": x}, {"y": outputs["y"]}),
            "classify": Signature("classify", {"inputs": text}, one),
        }
        self.signature_defs = {name: messages.SignatureDef(method_name=name) for name in self.signatures}

    def run(
        self, signature: Signature, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], **_: Any
    ) -> list[np.ndarray]:
        if signature.name == "classify":
            return [np.array([[len(value)] for value in inputs["inputs"]], np.float32)]
        if np.isnan(inputs["x"]).any():
            raise RuntimeError("secret details")
        y = inputs["x"] * inputs.get("scale", np.float32(1)) + np.float32(self._version)
        return [{"y": y, "n": np.int64(y.size).reshape(())}[name] for name in outputs]


class ScaleLoader:
    def __init__(self, version: int) -> None:
        self._version = version

    def estimate_resources(self) -> Resources:
        return Resources(0)

    def load(self) -> ScaleModel:
        return ScaleModel(self._version)

    def unload(self) -> None:
        pass


class Serving:
    """The api over versions 1 and 2 of model ``m``."""

    def __init__(self) -> None:
        bus = EventBus()
        self.monitor = ServableStateMonitor(bus)
        self.manager = Manager(bus)
        self.manager.set_aspired_versions(
            "m", [AspiredVersion(ServableId("m", version), ScaleLoader(version)) for version in (1, 2)]
        )
        self.monitor.wait_until_available([ServableRequest("m", 1), ServableRequest("m", 2)], timeout=10)
        labels = VersionLabels()
        labels.update({"m": {"stable": 1}}, self.manager.serving.is_available)
        self.executor = EngineExecutor(1)
        self.models = models = Models(self.manager.serving, labels)
        self.metrics = ServingMetrics(lambda name: bool(self.monitor.states(name)))
        self.health = Health(self.monitor, lambda: ["m", "other"])
        self.reloads: list[messages.ModelServerConfig] = []
        self.status = original = StatusApi(self.monitor, models, resolve_labels=False)
        self.rest = RestApi(models, original, self.executor, self.metrics, timeout=10, metrics_path="/metrics")
        modern = StatusApi(self.monitor, models, resolve_labels=True)
        self.modern_rest = RestApi(
            models, modern, self.executor, self.metrics, timeout=10, cors=True, health=self.health
        )
        self.methods = RpcApi(models, original, self.executor, self.metrics, self._reload).methods()

    async def _reload(self, config: messages.ModelServerConfig) -> None:
        self.reloads.append(config)

    def ask(self, method: str, target: str, body: object = None, *, modern: bool = False) -> HttpResponse:
        """``body`` is sent as JSON, unless it is bytes."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        handler = self.modern_rest if modern else self.rest
        return asyncio.run(handler.handle(HttpRequest(method, target, {}, data)))

    def call(self, method: str, request: Message, answer: type[Message]) -> Any:
        data = asyncio.run(self.methods[method](request.SerializeToString(), RpcContext(None)))
        return answer.FromString(data)

    def predict(self, **fields: Any) -> Any:
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
        tensor = request.inputs["x"]
        tensor.dtype = DType.FLOAT
        tensor.tensor_shape.dim.add(size=1)
        tensor.float_val.append(fields.pop("x", 10.0))
        for name, value in fields.items():
            setattr(request.model_spec, name, value)
        return request


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    serving = Serving()
    yield serving
    serving.executor.stop()
    assert serving.manager.stop(10), "a request kept its handle"


def json_of(response: HttpResponse) -> Any:
    assert response.content_type == "application/json"
    return json.loads(response.body)


PREDICT = "/tensorflow.serving.PredictionService/Predict"


def test_rest_answers_from_the_version_that_the_path_names(serving: Serving) -> None:
    body = {"signature_name": "plain", "instances": [10.0]}
    for path, value in (("m", 12.0), ("m/versions/1", 11.0), ("m/labels/stable", 11.0)):
        response = serving.ask("POST", f"/v1/models/{path}:predict", body)
        assert (response.status, json_of(response)) == (200, {"predictions": [value]})


def test_rest_answers_a_long_body_as_a_short_one(serving: Serving) -> None:
    values = np.arange(100_000).tolist()
    for body in (
        {"signature_name": "plain", "instances": values},
        {"signature_name": "plain", "inputs": {"x": values}},
        {"signature_name": "plain", "instances": [{"x": value} for value in values]},
    ):
        answer = serving.ask("POST", "/v1/models/m:predict", body)
        ((_, results),) = json_of(answer).items()
        assert answer.status == 200
        assert results == [value + 2 for value in values]


@pytest.mark.parametrize("size", [1, 5_000, 100_000])
@pytest.mark.parametrize(
    ("path", "signature", "tail", "status", "text"),
    [
        ("m", "plain", b"]", 400, "JSON Parse error"),
        ("x", "plain", b"]", 400, "JSON Parse error"),
        ("m", "q", b"]", 400, "JSON Parse error"),
        ("m", "plain", b",01]}", 400, "JSON Parse error"),
        ("x", "plain", b",01]}", 400, "JSON Parse error"),
        ("m", "q", b",01]}", 400, "JSON Parse error"),
        ("x", "plain", b",[1]]}", 404, "Servable not found"),
        ("m", "q", b",[1]]}", 400, '"q" not found in signature def'),
        ("m", "plain", b",[1]]}", 400, "Expecting shape [] but got: [1]"),
    ],
)
def test_rest_finds_the_same_error_however_long_the_body(
    serving: Serving, path: str, signature: str, tail: bytes, status: int, text: str, size: int
) -> None:
    body = b'{"signature_name":"%s","instances":[%s' % (signature.encode(), b",".join([b"1.5"] * size)) + tail
    answer = serving.ask("POST", f"/v1/models/{path}:predict", body)
    assert answer.status == status
    assert text in json_of(answer)["error"]


def test_grpc_answers_say_which_version_and_signature_answered(serving: Serving) -> None:
    answer = serving.call(PREDICT, serving.predict(version_label="stable"), messages.PredictResponse)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 1)
    assert answer.model_spec.signature_name == "serving_default"
    assert list(answer.outputs["y"].float_val) == [21.0], "the default scale of 2 was used"
    assert list(answer.outputs["n"].int64_val) == [1]


def test_output_filter_computes_only_what_was_asked_for(serving: Serving) -> None:
    request = serving.predict()
    request.output_filter.append("n")
    assert list(serving.call(PREDICT, request, messages.PredictResponse).outputs) == ["n"]


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (lambda r: r.ClearField("model_spec"), Code.INVALID_ARGUMENT, "Missing ModelSpec"),
        (lambda r: r.model_spec.ClearField("name"), Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (lambda r: setattr(r.model_spec, "name", "x"), Code.NOT_FOUND, "Servable not found for request: Latest(x)"),
        (lambda r: setattr(r.model_spec.version, "value", 9), Code.NOT_FOUND, "Specific(m, 9)"),
        (lambda r: setattr(r.model_spec, "version_label", "q"), Code.INVALID_ARGUMENT, "version label: q"),
        (lambda r: setattr(r.model_spec, "signature_name", "q"), Code.FAILED_PRECONDITION, 'key "q" not found'),
        (lambda r: r.inputs.clear(), Code.INVALID_ARGUMENT, "x(feed name: x:0) not found in request"),
        (lambda r: r.inputs["a"] and r.inputs["b"], Code.INVALID_ARGUMENT, "Sent extra: {a,b}"),
        (lambda r: r.output_filter.append("q"), Code.INVALID_ARGUMENT, "not found in signature: q"),
        (lambda r: r.output_filter.extend(["y", "y"]), Code.INVALID_ARGUMENT, "duplicate output tensor alias: y"),
    ],
)  # fmt: skip
def test_grpc_predict_refuses(serving: Serving, change: Any, code: Code, text: str) -> None:
    request = serving.predict()
    change(request)
    with pytest.raises(ServingError) as caught:
        serving.call(PREDICT, request, messages.PredictResponse)
    assert caught.value.code is code
    assert text in caught.value.message


def test_bytes_that_are_no_message_are_refused(serving: Serving) -> None:
    for method in serving.methods.values():
        with pytest.raises(ServingError) as caught:
            asyncio.run(method(b"\x0a\xff\xff", RpcContext(None)))
        assert caught.value.code is Code.INTERNAL


def test_a_bug_in_a_model_escapes_as_itself_for_the_transport_to_hide(serving: Serving) -> None:
    with pytest.raises(RuntimeError):
        serving.call(PREDICT, serving.predict(x=float("nan")), messages.PredictResponse)


def test_classify_over_both_fronts(serving: Serving) -> None:
    rest = serving.ask("POST", "/v1/models/m:classify", {"signature_name": "classify", "examples": [{"a": 1}, {}]})
    assert rest.status == 200
    (((label, score),), ((_, empty_score),)) = json_of(rest)["results"]
    assert label == ""
    assert score > empty_score == 0
    request = messages.ClassificationRequest(
        model_spec=messages.ModelSpec(name="m", signature_name="classify"),
        input=messages.Input(example_list=messages.ExampleList(examples=[messages.Example()])),
    )
    method = "/tensorflow.serving.PredictionService/Classify"
    answer = serving.call(method, request, messages.ClassificationResponse)
    assert answer.result.classifications[0].classes[0].score == 0
    assert answer.model_spec.version.value == 2


def test_status_shows_all_versions_and_passes_over_labels_as_the_original_does(serving: Serving) -> None:
    for path in ("m", "m/labels/none"):
        states = json_of(serving.ask("GET", f"/v1/models/{path}"))["model_version_status"]
        assert [state["version"] for state in states] == ["2", "1"]
    assert serving.ask("GET", "/v1/models/m/versions/9").status == 404


def test_today_a_label_in_a_status_request_names_its_version(serving: Serving) -> None:
    states = json_of(serving.ask("GET", "/v1/models/m/labels/stable", modern=True))["model_version_status"]
    assert [state["version"] for state in states] == ["1"]
    assert serving.ask("GET", "/v1/models/m/labels/none", modern=True).status == 400


def test_health_names_the_models_that_are_missing(serving: Serving) -> None:
    assert serving.ask("GET", "/healthz", modern=True).status == 200
    ready = serving.ask("GET", "/readyz", modern=True)
    assert (ready.status, json_of(ready)["missing"]) == (503, ["other"])
    models = json_of(serving.ask("GET", "/v1/models", modern=True))["models"]
    assert set(models) == {"m", "other"}
    for target in ("/healthz", "/readyz"):
        assert serving.ask("GET", target).status == 404, "the original has no such thing"


def test_cors_headers_where_they_are_wanted(serving: Serving) -> None:
    names = {name for name, _ in serving.ask("GET", "/v1/models/m", modern=True).headers}
    assert "Access-Control-Allow-Origin" in names
    assert not serving.ask("GET", "/v1/models/m").headers


def test_a_reload_request_hands_on_its_config(serving: Serving) -> None:
    config = messages.ModelServerConfig(model_config_list=messages.ModelConfigList())
    method = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
    answer = serving.call(method, messages.ReloadConfigRequest(config=config), messages.ReloadConfigResponse)
    assert serving.reloads == [config]
    assert answer.HasField("status")


def test_metadata_over_both_fronts(serving: Serving) -> None:
    shown = json_of(serving.ask("GET", "/v1/models/m/versions/1/metadata"))
    assert shown["model_spec"] == {"name": "m", "version": "1", "signature_name": ""}
    assert set(shown["metadata"]["signature_def"]["signature_def"]) == {"serving_default", "plain", "classify"}
    request = messages.GetModelMetadataRequest(
        model_spec=messages.ModelSpec(name="m"), metadata_field=["signature_def"]
    )
    method = "/tensorflow.serving.PredictionService/GetModelMetadata"
    answer = serving.call(method, request, messages.GetModelMetadataResponse)
    definitions = messages.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(definitions)
    assert definitions.signature_def["plain"].method_name == "plain"


def metric(serving: Serving, name: str) -> dict[tuple[str, ...], Any]:
    (family,) = [family for family in serving.metrics.collect() if family.name == ":tensorflow:serving:" + name]
    return dict(family.values)


def grown(serving: Serving, name: str, act: Callable[[], object]) -> dict[tuple[str, ...], float]:
    """By how much the values of a counter grow, or the counts of a histogram."""

    def numbers() -> dict[tuple[str, ...], float]:
        values = metric(serving, name)
        return {
            labels: sum(value.counts) if isinstance(value, Distribution) else value for labels, value in values.items()
        }

    before = numbers()
    act()
    return {labels: grown for labels, value in numbers().items() if (grown := value - before.get(labels, 0))}


def test_multi_inference_is_one_request_whose_examples_count_once(serving: Serving) -> None:
    request = messages.MultiInferenceRequest(
        tasks=[
            messages.InferenceTask(
                model_spec=messages.ModelSpec(name="m", signature_name="classify"),
                method_name="tensorflow/serving/classify",
            )
        ],
        input=messages.Input(example_list=messages.ExampleList(examples=[messages.Example()] * 3)),
    )
    method = "/tensorflow.serving.PredictionService/MultiInference"

    def ask() -> None:
        serving.call(method, request, messages.MultiInferenceResponse)

    assert grown(serving, "request_count", ask) == {("m", "OK"): 1}
    assert grown(serving, "request_latency", ask) == {("m", "MultiInference", "GRPC"): 1}
    assert grown(serving, "runtime_latency", ask) == {("m", "MultiInference", "TF1"): 1}
    assert grown(serving, "request_example_count_total", ask) == {("m",): 3}
    assert grown(serving, "request_example_counts", ask) == {("m",): 1}


def test_a_bug_counts_as_internal_and_a_client_that_leaves_as_cancelled(serving: Serving) -> None:
    def bug() -> None:
        with pytest.raises(RuntimeError):
            serving.call(PREDICT, serving.predict(x=float("nan")), messages.PredictResponse)

    def leave() -> None:
        body = json.dumps({"signature_name": "plain", "instances": [1.0]}).encode()
        executor = EngineExecutor(1)  # it knows no signature yet, so it runs them on its thread
        rest = RestApi(serving.models, serving.status, executor, serving.metrics, timeout=10)

        async def ask() -> None:
            task = asyncio.ensure_future(rest.handle(HttpRequest("POST", "/v1/models/m:predict", {}, body)))
            asyncio.get_running_loop().call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            # The thread takes this one when it is done with the first.
            assert (await rest.handle(HttpRequest("POST", "/v1/models/m:predict", {}, body))).status == 200

        asyncio.run(ask())
        executor.stop()

    assert grown(serving, "request_count", bug) == {("m", "INTERNAL"): 1}
    assert grown(serving, "request_count", leave) == {("m", "CANCELLED"): 1, ("m", "OK"): 1}


def test_the_page_for_prometheus_is_where_it_was_asked_for(serving: Serving) -> None:
    for method in ("GET", "POST", "HEAD"):
        page = serving.ask(method, "/metrics")
        assert (page.status, page.content_type) == (200, "text/plain")
        assert page.body.startswith(b"# TYPE :tensorflow:cc:saved_model:load_attempt_count counter\n")
    assert serving.ask("GET", "/metrics?name=x").status == 200
    for target in ("/metrics/", "/Metrics"):
        assert serving.ask("GET", target).status == 404
    assert serving.ask("PUT", "/metrics").status == 404
    assert serving.ask("GET", "/metrics", modern=True).status == 404, "that one was given no path"


def test_requests_for_pages_and_unknown_places_are_no_requests_to_models(serving: Serving) -> None:
    for target in ("/metrics", "/elsewhere"):
        assert grown(serving, "request_count", lambda target=target: serving.ask("GET", target)) == {}
    assert grown(serving, "request_count", lambda: serving.ask("GET", "/v1/models/m/x")) == {
        ("", "INVALID_ARGUMENT"): 1
    }
    assert grown(serving, "request_latency", lambda: serving.ask("GET", "/v1/models/m")) == {("m", "", "REST"): 1}
