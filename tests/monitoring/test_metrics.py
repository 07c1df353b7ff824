"""Counters, histograms and gauges, and what several threads or many label values do to them."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyserving.monitoring.metrics import (
    Counter,
    Distribution,
    Family,
    Gauge,
    Histogram,
    Registry,
    exponential_bounds,
)


def values_of(metric: Counter | Histogram | Gauge) -> dict[tuple[str, ...], float | Distribution]:
    return dict(metric.collect().values)


def test_a_child_is_kept_per_set_of_label_values() -> None:
    counter = Counter("c", ["a", "b"])
    counter.labels("x", "y").add()
    counter.labels("x", "y").add(2)
    counter.labels("x", "z").add()
    assert counter.labels("x", "y") is counter.labels("x", "y")
    assert values_of(counter) == {("x", "y"): 3, ("x", "z"): 1}


@pytest.mark.parametrize("labels", [(), ("x",), ("x", "y", "z")])
def test_as_many_values_as_labels(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="has the labels a, b"):
        Counter("c", ["a", "b"]).labels(*labels)


def test_a_value_lies_in_the_first_bucket_whose_limit_it_does_not_exceed() -> None:
    histogram = Histogram("h", [], [1, 2, 4])
    for value in (0, 1, 1.5, 2, 4, 4.001, 1e9):
        histogram.labels().observe(value)
    assert values_of(histogram) == {(): Distribution((2, 2, 1, 2), pytest.approx(1e9 + 12.501))}


@given(st.lists(st.floats(0, 1e6)), st.lists(st.floats(1, 1e5), min_size=1, unique=True).map(sorted))
def test_cumulative_counts_are_those_of_a_slow_count(values: list[float], bounds: list[float]) -> None:
    histogram = Histogram("h", [], bounds)
    for value in values:
        histogram.labels().observe(value)
    distribution = histogram.labels().collect()
    for position, bound in enumerate(bounds):
        assert sum(distribution.counts[: position + 1]) == sum(value <= bound for value in values)
    assert sum(distribution.counts) == len(values)
    assert distribution.sum == pytest.approx(sum(values))


def test_exponential_bounds() -> None:
    assert exponential_bounds(1, 2, 5) == [1, 2, 4, 8, 16]
    bounds = exponential_bounds(10, 1.8, 33)
    assert len(bounds) == 33
    assert (f"{bounds[1]:g}", f"{bounds[5]:g}", f"{bounds[-1]:g}") == ("18", "188.957", "1.47476e+09")


def test_a_gauge_is_asked_at_each_look() -> None:
    current: dict[tuple[str, ...], float] = {("a",): 1}
    gauge = Gauge("g", ["x"], lambda: dict(current))
    assert gauge.collect() == Family("g", "gauge", ("x",), {("a",): 1})
    current.clear()
    current["b",] = 2
    assert values_of(gauge) == {("b",): 2}
    assert Gauge("g_total", [], dict, only_grows=True).collect().kind == "counter"


def test_what_was_collected_does_not_change_any_more() -> None:
    registry = Registry()
    counter = registry.add(Counter("c", []))
    histogram = registry.add(Histogram("h", [], [1]))
    counter.labels().add()
    histogram.labels().observe(1)
    before = registry.collect()
    counter.labels().add()
    histogram.labels().observe(1)
    assert [dict(family.values) for family in before] == [{(): 1}, {(): Distribution((1, 0), 1)}]


def test_threads_make_one_child_between_them_while_others_look() -> None:
    counter = Counter("c", ["name"])
    names = [str(number) for number in range(200)]
    start = threading.Barrier(5)
    seen: list[list[int]] = []

    def make() -> None:
        start.wait()
        seen.append([id(counter.labels(name)) for name in names])

    def look() -> None:
        start.wait()
        for _ in range(100):
            counter.collect()

    threads = [threading.Thread(target=target) for target in (make, make, make, look)]
    for thread in threads:
        thread.start()
    start.wait()
    for thread in threads:
        thread.join()
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
