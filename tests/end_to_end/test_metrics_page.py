"""The page for Prometheus of a running server, read by prometheus-client's parser."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import Serving

from pyserving.protos import messages

PATH = "/monitoring/prometheus/metrics"
PREDICT = "/v1/models/half_plus_two_tf2:predict"
REQUESTS = ":tensorflow:serving:request_count"
LATENCY = ":tensorflow:serving:request_latency"
RUNTIME = ":tensorflow:serving:runtime_latency"

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def server(models_folder: Path) -> Iterator[Serving]:
    """A fresh one for each test: its counts begin at 0."""
    running = Serving(str(models_folder / "half_plus_two_tf2")).wait_until_ready()
    yield running
    assert running.stop() == 0


def scrape(server: Serving, method: str = "GET") -> Samples:
    """By name, as on the page, and by label values; without the buckets."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.rest}{PATH}", method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "text/plain"
        page = answer.read().decode()
    assert page.endswith("\n")
    return {
        (sample.name.removesuffix("_total") if sample.name[0] == ":" else sample.name, tuple(sample.labels.values())): (
            sample.value
        )
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_each_request_is_counted_where_tensorflow_serving_counts_it(server: Serving) -> None:
    model = "half_plus_two_tf2"
    for _ in range(3):
        assert server.post(PREDICT, b'{"instances": [1.0]}')[0] == 200
    assert server.post(PREDICT, b'{"instances": [')[0] == 400
    assert server.post("/v1/models/nope:predict", b'{"instances": [1.0]}')[0] == 404
    assert server.post("/elsewhere", b"")[0] == 404
    assert server.get(f"/v1/models/{model}")[0] == 200
    assert server.get("/v1/models/x/nothing")[0] == 400
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=model))
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(1)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        predict(request.SerializeToString(), timeout=30)
        request.model_spec.signature_name = "nope"
        with pytest.raises(grpc.RpcError):
            predict(request.SerializeToString(), timeout=30)

    samples = scrape(server)
    assert {labels: value for (name, labels), value in samples.items() if name == REQUESTS} == {
        (model, "OK"): 5,
        (model, "INVALID_ARGUMENT"): 1,
        (model, "FAILED_PRECONDITION"): 1,
        ("nope", "NOT_FOUND"): 1,
        ("", "INVALID_ARGUMENT"): 1,
    }
    assert {labels: value for (name, labels), value in samples.items() if name == LATENCY + "_count"} == {
        (model, "predict", "REST"): 3,
        (model, "", "REST"): 1,
        (model, "Predict", "GRPC"): 1,
    }
    assert samples[RUNTIME + "_count", (model, "Predict", "TF1")] == 4
    runs = samples[RUNTIME + "_sum", (model, "Predict", "TF1")]
    answers = [samples[LATENCY + "_sum", (model, *of)] for of in (("predict", "REST"), ("Predict", "GRPC"))]
    # What the failed gRPC call took is in neither.
    assert 0 < runs < sum(answers)


def test_the_page_tells_how_the_server_stands(server: Serving, models_folder: Path) -> None:
    samples = scrape(server)
    model = "half_plus_two_tf2"
    ((_, path),) = [key for key in samples if key[0] == ":tensorflow:cc:saved_model:load_latency"]
    assert Path(path[0]).parent == models_folder / model
    assert samples[":tensorflow:cc:saved_model:load_attempt_count", (*path, "success")] == 1
    assert samples["pyserving_versions", (model, "AVAILABLE")] == 1
    assert samples["pyserving_versions", (model, "END")] == 0
    assert samples["pyserving_failed_versions", (model,)] == 0
    assert samples["pyserving_requests_in_flight", (model,)] == 0
    assert samples["pyserving_connections", (f"127.0.0.1:{server.rest}",)] == 1
    assert samples["pyserving_resident_memory_bytes", ()] > 1e6
    assert samples["pyserving_cpu_seconds_total", ()] > 0


def test_only_that_path_has_it(server: Serving) -> None:
    scrape(server)
    assert server.get(PATH + "/")[0] == 404
    assert scrape(server).keys() == scrape(server, "POST").keys()


def test_counts_never_fall_and_none_is_lost_with_many_clients(server: Serving) -> None:
    body = json.dumps({"instances": [1.0, 2.0]}).encode()
    clients, each = 8, 100
    start = threading.Barrier(clients + 1)
    answered: list[int] = []

    def client() -> None:
        start.wait()
        answered.append(sum(server.post(PREDICT, body)[0] == 200 for _ in range(each)))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    seen = [0.0]
    while any(thread.is_alive() for thread in threads):
        seen.append(scrape(server).get((REQUESTS, ("half_plus_two_tf2", "OK")), 0))
    for thread in threads:
        thread.join()
    assert answered == [each] * clients
    assert seen == sorted(seen)
    samples = scrape(server)
    assert samples[REQUESTS, ("half_plus_two_tf2", "OK")] == clients * each
    assert samples[LATENCY + "_count", ("half_plus_two_tf2", "predict", "REST")] == clients * each
    assert samples[RUNTIME + "_count", ("half_plus_two_tf2", "Predict", "TF1")] == clients * each
