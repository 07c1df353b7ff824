"""What is recorded under TensorFlow Serving's names, and that clients cannot make it grow without limit."""

import threading

import pytest

from pyserving.monitoring.exposition import write_page
from pyserving.monitoring.metrics import Distribution, Labels
from pyserving.monitoring.serving_metrics import (
    MAX_PATHS,
    MAX_UNKNOWN_NAME_LENGTH,
    MAX_UNKNOWN_NAMES,
    OTHER_NAMES,
    ServingMetrics,
)

SERVING = ":tensorflow:serving:"


def new_metrics() -> ServingMetrics:
    return ServingMetrics(lambda name: name in ("m", "late"))


def values_of(metrics: ServingMetrics, name: str) -> dict[Labels, float | Distribution]:
    (family,) = [family for family in metrics.collect() if family.name == name]
    return dict(family.values)


def test_an_answered_request_counts_and_has_its_latency() -> None:
    metrics = new_metrics()
    metrics.answers("predict", "REST")["m"].append(11e-6)
    metrics.answers("predict", "REST")["m"].append(9e-6)
    metrics.answers("Predict", "GRPC")["m"].append(9e-6)
    assert values_of(metrics, SERVING + "request_count") == {("m", "OK"): 3}
    latency = values_of(metrics, SERVING + "request_latency")
    assert latency.keys() == {("m", "predict", "REST"), ("m", "Predict", "GRPC")}
    rest = latency["m", "predict", "REST"]
    assert isinstance(rest, Distribution)
    assert rest.counts[:3] == (1, 1, 0)
    assert rest.sum == pytest.approx(20)


def test_a_failed_request_counts_but_has_no_latency() -> None:
    metrics = new_metrics()
    metrics.request_failed("m", "INVALID_ARGUMENT")
    metrics.request_failed("nope", "NOT_FOUND")
    metrics.request_failed("", "INVALID_ARGUMENT")
    assert values_of(metrics, SERVING + "request_count") == {
        ("m", "INVALID_ARGUMENT"): 1,
        ("nope", "NOT_FOUND"): 1,
        ("", "INVALID_ARGUMENT"): 1,
    }
    assert values_of(metrics, SERVING + "request_latency") == {}


def test_invented_names_take_a_limited_place() -> None:
    metrics = new_metrics()
    for number in range(2 * MAX_UNKNOWN_NAMES):
        metrics.request_failed(f"invented {number}", "NOT_FOUND")
    metrics.request_failed("invented 0", "NOT_FOUND")
    metrics.request_failed("late", "INTERNAL")
    metrics.answers("predict", "REST")["late"].append(1e-3)
    counts = values_of(metrics, SERVING + "request_count")
    assert counts[OTHER_NAMES, "NOT_FOUND"] == MAX_UNKNOWN_NAMES
    assert counts["invented 0", "NOT_FOUND"] == 2
    assert (counts["late", "INTERNAL"], counts["late", "OK"]) == (1, 1)
    assert len(counts) == MAX_UNKNOWN_NAMES + 3


def test_a_long_invented_name_is_not_kept() -> None:
    metrics = new_metrics()
    metrics.request_failed("x" * MAX_UNKNOWN_NAME_LENGTH, "NOT_FOUND")
    metrics.request_failed("x" * (MAX_UNKNOWN_NAME_LENGTH + 1), "NOT_FOUND")
    assert values_of(metrics, SERVING + "request_count").keys() == {
        ("x" * MAX_UNKNOWN_NAME_LENGTH, "NOT_FOUND"),
        (OTHER_NAMES, "NOT_FOUND"),
    }


def test_runs_and_examples() -> None:
    metrics = new_metrics()
    metrics.runs("Predict")["m"].append(1e-3)
    metrics.runs("Predict")["m"].append(1e-3)
    metrics.examples_computed("m", 2)
    metrics.examples_computed("m", 3)
    (labels, runtime), *others = values_of(metrics, SERVING + "runtime_latency").items()
    assert (labels, others) == (("m", "Predict", "TF1"), [])
    assert isinstance(runtime, Distribution)
    assert sum(runtime.counts) == 2
    assert runtime.sum == pytest.approx(2000)
    assert values_of(metrics, SERVING + "request_example_count_total") == {("m",): 5}
    counts = values_of(metrics, SERVING + "request_example_counts")["m",]
    assert isinstance(counts, Distribution)
    assert counts.counts[:4] == (0, 1, 1, 0)  # at most 1, 2, 4, 8


def test_loads_on_many_threads_are_all_counted() -> None:
    metrics = new_metrics()

    def load() -> None:
        for _ in range(500):
            metrics.load_ended("/models/m/1", 1e-6, loaded=True)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics.load_ended("/models/m/1", 5e-6, loaded=False)
    metrics.warmup_ended("/models/m/1", 0.02, "OK")
    assert values_of(metrics, ":tensorflow:cc:saved_model:load_attempt_count") == {
        ("/models/m/1", "success"): 2000,
        ("/models/m/1", "fail"): 1,
    }
    assert values_of(metrics, ":tensorflow:cc:saved_model:load_latency") == {("/models/m/1",): 2005}
    assert values_of(metrics, SERVING + "model_warmup_latency").keys() == {("/models/m/1", "OK")}


def test_folders_that_were_loaded_from_long_ago_are_forgotten() -> None:
    metrics = new_metrics()
    for number in range(MAX_PATHS):
        metrics.load_ended(f"/models/m/{number}", 1e-6, loaded=number > 1)
        metrics.warmup_ended(f"/models/m/{number}", 1e-6, "OK")
    metrics.load_ended("/models/m/0", 1e-6, loaded=True)
    metrics.load_ended("/models/m/new", 1e-6, loaded=True)
    attempts = values_of(metrics, ":tensorflow:cc:saved_model:load_attempt_count")
    assert attempts["/models/m/0", "fail"] == attempts["/models/m/0", "success"] == 1
    assert ("/models/m/1", "fail") not in attempts
    assert len(attempts) == MAX_PATHS + 1
    assert len(values_of(metrics, ":tensorflow:cc:saved_model:load_latency")) == MAX_PATHS
    assert ("/models/m/1", "OK") not in values_of(metrics, SERVING + "model_warmup_latency")


def test_the_buckets_are_those_of_tensorflow_serving() -> None:
    metrics = new_metrics()
    limits = {family.name: [f"{bound:g}" for bound in family.bounds] for family in metrics.collect()}
    latencies = limits[SERVING + "request_latency"]
    assert limits[SERVING + "runtime_latency"] == limits[SERVING + "model_warmup_latency"] == latencies
    assert (len(latencies), *latencies[:6], latencies[-1]) == (
        33, "10", "18", "32.4", "58.32", "104.976", "188.957", "1.47476e+09"
    )  # fmt: skip
    examples = limits[SERVING + "request_example_counts"]
    assert (len(examples), examples[0], examples[-1]) == (15, "1", "16384")
    queuing = limits[SERVING + "batching_session:queuing_latency"]
    assert (len(queuing), queuing[0], queuing[1]) == (52, "100", "120")


def test_a_metric_that_nothing_was_recorded_for_is_there_by_name() -> None:
    page = write_page(new_metrics().collect())
    assert page.startswith(b"# TYPE :tensorflow:cc:saved_model:load_attempt_count counter\n")
    assert b"# TYPE :tensorflow:serving:batching_session:queuing_latency histogram\n" in page
    assert b"{" not in page


def test_nothing_is_lost_between_a_flush_and_a_look() -> None:
    metrics = new_metrics()
    recorder = metrics.answers("predict", "REST")
    for _ in range(3):
        recorder["m"].append(1e-3)
        recorder["late"].append(1e-3)
        recorder.flush()
        recorder["m"].append(1e-3)
        metrics.collect()
    assert values_of(metrics, SERVING + "request_count") == {("m", "OK"): 6, ("late", "OK"): 3}
    assert not any(recorder.values())


def test_the_waits_of_a_batch_are_put_under_the_name_of_its_threads() -> None:
    metrics = new_metrics()
    metrics.requests_waited("engine_threads", [99.0, 150.0])
    found = values_of(metrics, SERVING + "batching_session:queuing_latency")[("engine_threads",)]
    assert isinstance(found, Distribution)
    assert (sum(found.counts), found.sum) == (2, 249.0)
