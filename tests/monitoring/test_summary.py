"""What the console shows of the metrics."""

from pyserving.monitoring.metrics import Family
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.monitoring.summary import summarise


def test_summary_adds_up_methods_and_leaves_out_requests_that_compute_nothing() -> None:
    metrics = ServingMetrics(lambda _: True)
    metrics.answers("predict", "REST").add("half", 15e-6)
    metrics.answers("Predict", "GRPC").add("half", 15e-6)
    metrics.answers("", "REST").add("half", 5.0)
    metrics.request_failed("half", "INVALID_ARGUMENT")
    metrics.requests_waited("engine_threads", [1.0, 2.0, 3.0])
    metrics.requests_waited("batch_threads", [1.0])
    summary = summarise(metrics.collect())
    (half,) = summary["requests"].values()  # type: ignore[attr-defined]
    assert half["ok"] == 3
    assert half["errors"] == {"INVALID_ARGUMENT": 1}
    assert half["latency"]["counts"][:3] == [0, 2, 0]
    assert sum(half["latency"]["counts"]) == 2
    assert summary["batch_bounds"][:3] == [1, 2, 4]  # type: ignore[index]
    assert summary["batches"]["counts"][:3] == [1, 0, 1]  # type: ignore[index]
    assert summary["batches"]["sum"] == 4  # type: ignore[index]


def test_summary_of_nothing() -> None:
    summary = summarise([])
    assert summary["requests"] == {}
    assert summary["batches"] is None
    assert summary["memory_bytes"] == 0


def test_memory_of_all_processes() -> None:
    family = Family("pyserving_resident_memory_bytes", "gauge", [], {(): 5e6})
    assert summarise([family])["memory_bytes"] == 5e6
