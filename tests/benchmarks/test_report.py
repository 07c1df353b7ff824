"""From samples to tables, JSON and plots; the samples are made up, the arithmetic is checked."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc")

from benchmarks import report
from benchmarks.closed_loop import Load
from benchmarks.contenders import CONTENDERS
from benchmarks.open_loop import Latencies
from benchmarks.servers import Sample
from benchmarks.suite import Case, Pace, Plan, Results

CASE, PACE = Case("half_plus_two.rest", 8), Pace("half_plus_two.rest", 500)


def sample(requests: int, cpu: float, failed: int = 0) -> Sample:
    return Sample(Load(requests, failed, 2.0, 0.5, 1.5), cpu, 300.0, 1)


def latencies(milliseconds: list[float], failed: int = 0) -> Latencies:
    seconds = np.array(milliseconds) / 1e3
    bad = np.arange(len(seconds)) < failed
    return Latencies(np.zeros(len(seconds)), seconds, np.zeros(len(seconds)), bad, 0.1)


@pytest.fixture
def results() -> Results:
    contenders = [CONTENDERS[key] for key in ("echo", "pyserving", "fastapi", "flask", "ray")]
    found = Results(Plan(contenders, False, [CASE], [PACE], 3, 2.0))
    found.samples[CASE, "pyserving"] = [sample(20_000, 1.0), sample(10_000, 0.6), sample(40_000, 2.0, failed=2)]
    found.samples[CASE, "fastapi"] = [sample(2_000, 2.0), sample(500, 0.5), sample(5_000, 5.0)]
    found.latencies[PACE, "pyserving"] = [latencies([1.0] * 999), latencies([5.0], failed=1)]
    found.errors[CASE, "flask"] = "expected 2.5, got 2|3"
    found.not_available["ray"] = "pip install ray[serve]: no matching distribution"
    found.idle_shares["pyserving"], found.start_seconds["pyserving"] = 0.004, 0.4321
    return found


def test_figures_are_medians_and_ratios_are_taken_within_rounds(results: Results) -> None:
    figures = report.summary(results, CASE, "fastapi")
    assert figures["requests_per_second"] == 1_000
    assert (figures["lowest"], figures["highest"]) == (250, 2_500)
    assert figures["pyserving_to_it"] == 10  # of 10, 20 and 8
    assert figures["cpu_ms_per_request"] == 1.0
    assert report.summary(results, CASE, "pyserving")["cpu_ms_per_request"] == pytest.approx(0.05)


def test_percentiles_are_those_of_all_rounds_together(results: Results) -> None:
    figures = report.pace_summary(results.latencies[PACE, "pyserving"])
    assert figures["p99_ms"] == 1.0
    assert figures["p99.9_ms"] == figures["max_ms"] == 5.0
    assert (figures["requests"], figures["failed"]) == (1000, 1)


def test_markdown_has_a_row_for_each_and_says_what_failed(results: Results) -> None:
    text = report.markdown(results, report.machine(), report.machine())
    assert "| PyServing | 10,000 | 5,000 to 20,000 | 1.00 | 0.500 | 1.50 | 0.0500 | 300 | 2 |" in text
    assert "|  | 0.432 | 0 % |" in text
    assert "| PyServing | 10,000 | 300 |" in text
    assert "| Flask | error: expected 2.5, got 2\\|3 |" in text
    assert "| Ray Serve | not available: pip install ray[serve]: no matching distribution |" in text
    assert "### half_plus_two.rest, 500 requests per second" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 5
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.strip().splitlines()}) == 1, table


def test_json_has_every_round_and_no_numbers_that_are_none(results: Results) -> None:
    results.samples[CASE, "echo"] = [sample(0, 0.0)] * 3
    text = json.dumps(report.as_json(results, report.machine(), report.machine()), allow_nan=False)
    found = {entry["contender"]: entry for entry in json.loads(text)["closed_loop"]}
    assert [entry["requests"] for entry in found["pyserving"]["samples"]] == [20_000, 10_000, 40_000]
    assert found["echo"]["cpu_ms_per_request"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (99.96, "100.0"), (1.234, "1.23"), (0.01234, "0.0123"), (0, "0"),
     (math.nan, "–"), (math.inf, "∞")],
)  # fmt: skip
def test_number(value: float, text: str) -> None:
    assert report.number(value) == text


def test_plots_are_small_pictures_with_their_text_as_text(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import plots

    plots.throughput(results, tmp_path / "throughput.svg")
    plots.latency(results, tmp_path / "latency.svg")
    for path in tmp_path.iterdir():
        assert "PyServing" in path.read_text()
        assert path.stat().st_size < 100_000
