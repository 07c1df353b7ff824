"""The metrics of several processes are added up."""

import pytest

from pyserving.monitoring.merge import merge, only_growing
from pyserving.monitoring.metrics import Counter, Distribution, Family, Gauge, Histogram, Registry


def page(requests: dict[str, int], latencies: list[float], connections: float) -> list[Family]:
    registry = Registry()
    counter = registry.add(Counter("requests", ["model"]))
    for model, count in requests.items():
        counter.labels(model).add(count)
    registry.add(Histogram("latency", ["model"], [1, 10])).labels("a").observe(*latencies)
    registry.add(Gauge("connections", [], lambda: {(): connections}))
    registry.add(Gauge("records", [], lambda: {(): 1}, only_grows=True))
    return registry.collect()


def test_values_with_the_same_labels_are_added_up() -> None:
    one, other = page({"a": 2, "b": 1}, [0.5, 5], 3), page({"a": 5, "c": 7}, [5, 50], 4)
    merged = {family.name: family for family in merge([one, other])}
    assert merged["requests"].values == {("a",): 7, ("b",): 1, ("c",): 7}
    assert merged["latency"].values == {("a",): Distribution((1, 2, 1), 60.5)}
    assert merged["connections"].values == {(): 7}
    assert (merged["latency"].kind, merged["latency"].bounds) == ("histogram", (1, 10))
    assert {family.name: family.values for family in one} == {
        family.name: family.values for family in page({"a": 2, "b": 1}, [0.5, 5], 3)
    }


def test_what_a_process_has_counted_outlives_it_but_not_how_it_stood() -> None:
    assert {family.name for family in only_growing(page({"a": 1}, [], 3))} == {"requests", "latency", "records"}


def test_a_number_and_a_distribution_have_no_sum() -> None:
    one, other = Family("m", "counter", (), {(): 1}), Family("m", "counter", (), {(): Distribution((1,), 1.0)})
    with pytest.raises(ValueError, match="one of each"):
        merge([[one], [other]])
