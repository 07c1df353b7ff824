"""The page that Prometheus reads: its exact shape, and that a parser that is not ours understands it."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pyserving.monitoring.exposition import write_page
from pyserving.monitoring.metrics import Counter, Distribution, Family, Histogram, Registry, exponential_bounds


def samples_of(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """By name and labels; no sample may come twice. This parser, not the page, adds ``_total`` to a counter."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def test_the_shape_of_the_page() -> None:
    registry = Registry()
    latency = registry.add(Histogram(":s:latency", ["model_name", "API"], [10, 18, 1.27482e6]))
    count = registry.add(Counter(":s:count", ["model_name", "status"]))
    registry.add(Counter(":s:never", ["a"]))
    total = registry.add(Counter(":a:total", []))
    for value in (10, 11, 2e6):
        latency.labels("m", "predict").observe(value)
    count.labels("n", "OK").add(3)
    count.labels("m", "OK").add()
    count.labels("m", "NOT_FOUND").add()
    total.labels().add()
    assert write_page(registry.collect()).decode() == (
        "# TYPE :a:total counter\n"
        ":a:total{} 1\n"
        "# TYPE :s:count counter\n"
        ':s:count{model_name="m",status="NOT_FOUND"} 1\n'
        ':s:count{model_name="m",status="OK"} 1\n'
        ':s:count{model_name="n",status="OK"} 3\n'
        "# TYPE :s:latency histogram\n"
        ':s:latency_bucket{model_name="m",API="predict",le="10"} 1\n'
        ':s:latency_bucket{model_name="m",API="predict",le="18"} 2\n'
        ':s:latency_bucket{model_name="m",API="predict",le="1.27482e+06"} 2\n'
        ':s:latency_bucket{model_name="m",API="predict",le="+Inf"} 3\n'
        ':s:latency_sum{model_name="m",API="predict"} 2000021\n'
        ':s:latency_count{model_name="m",API="predict"} 3\n'
        "# TYPE :s:never counter\n"
    )


def test_a_histogram_without_labels() -> None:
    histogram = Histogram("h", [], [1])
    histogram.labels().observe(0.25)
    assert write_page([histogram.collect()]) == (
        b'# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 1\nh_sum{} 0.25\nh_count{} 1\n'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2**53 - 1, "9007199254740991"), (123456789.5, "123456789.5"), (0.1 + 0.2, "0.3"), (1e20, "1e+20")],
)
def test_numbers_keep_their_digits(value: float, text: str) -> None:
    assert write_page([Family("c", "counter", [], {(): value})]) == f"# TYPE c counter\nc{{}} {text}\n".encode()


def test_label_values_are_escaped() -> None:
    page = write_page([Family("c", "counter", ["path"], {('a\\b"c\nd',): 1})])
    assert page == b'# TYPE c counter\nc{path="a\\\\b\\"c\\nd"} 1\n'


def test_a_path_that_is_no_text_does_not_spoil_the_page() -> None:
    path = b"/models/\xff".decode(errors="surrogateescape")
    assert b'c{path="/models/\\udcff"} 1\n' in write_page([Family("c", "counter", ["path"], {(path,): 1})])


labels = st.text(st.characters(exclude_categories=["Cs"])) | st.text('\\"\n{},= ')


@given(st.dictionaries(st.tuples(labels, labels), st.integers(0, 2**53), max_size=5))
def test_a_parser_reads_any_label_values(values: dict[tuple[str, str], int]) -> None:
    page = write_page([Family(":s:g", "gauge", ["one", "two"], values)])
    assert samples_of(page) == {
        (":s:g", frozenset((("one", one), ("two", two)))): value for (one, two), value in values.items()
    }


@given(st.lists(st.integers(0, 1000), min_size=34, max_size=34))
def test_a_parser_reads_histograms(counts: Sequence[int]) -> None:
    bounds = exponential_bounds(10, 1.8, 33)
    page = write_page([Family("h", "histogram", ["m"], {("x",): Distribution(counts, 7.5)}, bounds)])
    samples = samples_of(page)
    cumulative = [samples["h_bucket", frozenset((("m", "x"), ("le", f"{bound:g}")))] for bound in bounds]
    assert cumulative == [sum(counts[: position + 1]) for position in range(33)]
    assert samples["h_bucket", frozenset((("m", "x"), ("le", "+Inf")))] == sum(counts)
    assert samples["h_count", frozenset((("m", "x"),))] == sum(counts)
    assert samples["h_sum", frozenset((("m", "x"),))] == 7.5
