"""Benchmarks that are read, the model made of them, and the plans."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pyserving.cli.main import main
from pyserving.core.errors import Code, ServingError
from pyserving.planning.benchmark import read_benchmark
from pyserving.planning.plan import MEMORY_ROOM, Planner, Target
from pyserving.planning.simulation import Balancing
from pyserving.planning.station import measured_station

TIMES_MS = (-10 * np.log(1 - (np.arange(1000) + 0.5) / 1000)).tolist()
"""Exponential, 10 ms."""


@pytest.fixture(autouse=True)
def short_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that hang on a few percent are not looked at here."""
    monkeypatch.setattr("pyserving.planning.plan.REQUESTS", 50_000)


def run_of(connections: int, throughput: float, mean: float, p99: float, rate: float | None = None) -> dict[str, Any]:
    """As ``pyserving bench`` writes it; times in milliseconds."""
    return {
        "connections": connections,
        "rate": rate,
        "requests": 2000,
        "failed": 0,
        "failures": {},
        "seconds": 2000 / throughput,
        "requests_per_second": throughput,
        "client_cpu": 0.1,
        "latency_ms": {"p50": mean, "p99": p99, "mean": mean},
        "server": {"cpu_ms_per_request": 4.0, "cores": 0.004 * throughput, "memory_bytes": 100e6},
    }


def mm1() -> dict[str, Any]:
    """A server that answers one request at a time: M/M/1."""
    closed = [run_of(n, 100.0, 10.0 * n, 20.0 * n) for n in (1, 2, 4)]
    closed[0]["service_times_ms"] = TIMES_MS
    at_rates = [run_of(4, rate, 1000 / (100 - rate), 0.95 * 4605 / (100 - rate), rate) for rate in (30.0, 50.0, 70.0)]
    return {"urls": ["http://a:8501"], "model": "m", "signature": "serving_default", "points": closed + at_rates}


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    told = copy.deepcopy(mm1())
    where: Any = told
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    return told


def test_a_server_with_one_place() -> None:
    station = measured_station(read_benchmark(mm1()))
    assert list(station.speeds) == [1.0]
    assert station.capacity == pytest.approx(100, rel=0.01)


def test_a_server_that_batches_has_a_throughput_that_grows() -> None:
    told = mm1()
    told["points"][1:3] = [run_of(2, 160.0, 12.5, 30.0), run_of(4, 200.0, 20.0, 40.0), run_of(8, 204.0, 39.2, 80.0)]
    station = measured_station(read_benchmark(told))
    mean = float(np.mean(TIMES_MS)) / 1e3
    assert [n * speed / mean for n, speed in enumerate(station.speeds, 1)] == pytest.approx([1 / mean, 160, 180, 200])
    assert station.capacity == pytest.approx(200)


@pytest.mark.parametrize("p99", [0.098, 0.2])
def test_the_fewest_replicas_of_mm1(p99: float) -> None:
    """Chosen at random each replica is an M/M/1: its p99 is ln 100 / (mu - rate of each)."""
    each = 100 - math.log(100) / p99
    needed = math.ceil(500 / each)
    found = Planner(read_benchmark(mm1())).plan(Target(500, p99))
    assert (found.needed.replicas, found.replicas) == (needed, needed + 1)
    assert found.needed.p99 <= p99
    assert found.all.p99 < found.needed.p99
    assert found.needed.cores == pytest.approx(500 / needed * 0.004)
    assert found.memory_each == pytest.approx(100e6 * MEMORY_ROOM)
    assert found.cores_each == pytest.approx(0.4)


def test_utilization_and_spare_are_kept() -> None:
    planner = Planner(read_benchmark(mm1()))
    assert planner.plan(Target(500, 5.0, spare=0)).replicas == 7
    assert planner.plan(Target(500, 5.0, spare=0, max_utilization=0.5)).replicas in (10, 11)
    assert planner.plan(Target(500, 5.0, spare=2)).replicas == 9


def test_who_sees_all_requests_needs_fewer_replicas() -> None:
    planner = Planner(read_benchmark(mm1()))
    random, least = (
        planner.plan(Target(500, 0.1, balancing=how)).replicas for how in (Balancing.RANDOM, Balancing.LEAST)
    )
    assert least < random


def test_thousands_of_replicas() -> None:
    planner = Planner(read_benchmark(mm1()))
    found = planner.plan(Target(500_000, 0.06, balancing=Balancing.LEAST))
    assert found.needed.utilization <= 0.8
    assert found.replicas > 6000


def test_what_was_slower_than_the_model_makes_plans_more_careful() -> None:
    told = mm1()
    told["points"][4]["latency_ms"]["p99"] *= 2
    careful, plain = Planner(read_benchmark(told)), Planner(read_benchmark(mm1()))
    assert careful.correction == pytest.approx(1.9, rel=0.1)
    assert plain.correction == pytest.approx(1, abs=0.1)
    assert any("measure again" in text for text in careful.warnings())
    assert careful.plan(Target(500, 0.2)).replicas > plain.plan(Target(500, 0.2)).replicas


@pytest.mark.parametrize("balancing", Balancing)
def test_requests_that_are_rare(balancing: Balancing) -> None:
    """One in many years finds the server idle, and takes what it takes alone."""
    planner = Planner(read_benchmark(mm1()))
    found = planner.predict(3, Target(1e-9, 1.0, balancing=balancing))
    assert found.p99 == pytest.approx(float(np.percentile(TIMES_MS, 99)) / 1e3 * planner.correction, rel=0.05)
    assert planner.plan(Target(1e-9, 1.0, balancing=balancing)).needed.replicas == 1


def test_no_number_of_replicas_is_enough() -> None:
    planner = Planner(read_benchmark(mm1()))
    with pytest.raises(ServingError, match="any number of replicas") as raised:
        planner.plan(Target(10, 0.04))
    assert raised.value.code is Code.FAILED_PRECONDITION
    with pytest.raises(ServingError, match="more than 3 replicas can answer"):
        planner.predict(3, Target(400, 1.0))


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ([], "not what pyserving bench"),
        ({"a": 1}, "not what pyserving bench"),
        (run_of(8, 100, 10, 20), "add --sweep"),
        (changed(("urls",), ["a", "b"]), "of one server; this one is of 2"),
        (changed(("points",), "x"), "expected a list of runs"),
        (changed(("points", 1, "failed"), 3), "3 of 12000 requests of the benchmark failed"),
        (changed(("points",), mm1()["points"][:3]), "closed loops"),
        (changed(("points",), mm1()["points"][1:]), "no run with one connection"),
        (changed(("points", 0, "requests"), 499), "499 requests with one connection are too few: p99 needs 500"),
        (changed(("points", 5, "requests"), 10), "10 requests at 70 requests a second are too few"),
        (changed(("points", 0, "latency_ms"), None), "has no answers"),
        (changed(("points", 0, "latency_ms", "mean"), "x"), "mean of a run: expected a number, got 'x'"),
        (changed(("points", 0, "requests_per_second"), float("nan")), "expected a number, got nan"),
        (changed(("points", 0, "service_times_ms"), [1, -1]), "service_times_ms"),
        (changed(("points", 0, "service_times_ms"), None), "service_times_ms"),
        (changed(("points", 1, "connections"), 1), "two runs with 1 connections"),
        (changed(("points", 3, "rate"), 0), "rate of a run: expected more than 0 requests a second, got 0"),
        (
            changed(("points", 1, "requests_per_second"), 1e9),
            "a run with 2 connections: expected no more requests under",
        ),
        (changed(("points", 1, "requests"), 10**400), "requests of a run: expected a number, got 1000"),
        (changed(("points", 0, "service_times_ms"), [1, 10**400]), "service_times_ms"),
        (changed(("points", 0, "service_times_ms"), [1e-300]), "expected times with its mean of 10 ms, got 1e-300 ms"),
    ],
)
def test_benchmarks_that_will_not_do(told: Any, text: str) -> None:
    with pytest.raises(ServingError, match=text) as raised:
        read_benchmark(told)
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (changed(("points", 4, "latency_ms", "p99"), 5000.0), "Measure again where it is quiet"),
        (changed(("points", 4, "requests_per_second"), 30.0), "of 50 requests a second only 30 were answered"),
    ],
)
def test_servers_that_did_not_behave(told: Any, text: str) -> None:
    with pytest.raises(ServingError, match=text):
        Planner(read_benchmark(told))


def plan(folder: Path, told: Any, *arguments: str) -> Result:
    (folder / "bench.json").write_text(told if isinstance(told, str) else json.dumps(told))
    return CliRunner().invoke(main, ["plan", str(folder / "bench.json"), *arguments], catch_exceptions=False)


def test_the_command(tmp_path: Path) -> None:
    shown = plan(tmp_path, mm1(), "--rate", "500", "--p99", "98")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("11 replicas for 500 requests a second with p99 up to 98 ms, of which 1 may be away")
    told = json.loads(plan(tmp_path, mm1(), "--rate", "500", "--p99", "98", "--json").stdout)
    assert (told["replicas"], told["spare_away"]["replicas"]) == (11, 10)
    assert told["total"]["memory_bytes"] == pytest.approx(11 * 100e6 * MEMORY_ROOM)
    assert len(told["model"]["checks"]) == 3
    assert told["warnings"] == []
    what = json.loads(plan(tmp_path, mm1(), "--rate", "100", "--replicas", "2", "--json").stdout)
    assert what["prediction"]["p99_ms"] == pytest.approx(92, rel=0.05)


def test_large_numbers_are_written_out(tmp_path: Path) -> None:
    shown = plan(tmp_path, mm1(), "--rate", "500000", "--p99", "2000", "--balancing", "least").stdout
    assert " replicas for 500000 requests a second with p99 up to 2000 ms" in shown
    assert "e+" not in shown


def test_what_the_server_used_may_be_unknown(tmp_path: Path) -> None:
    told = mm1()
    for point in told["points"]:
        point["server"] = None
    shown = plan(tmp_path, told, "--rate", "500", "--p99", "98")
    assert shown.exit_code == 0, shown.output
    assert "not known" in shown.stdout
    assert "metrics were not read" in shown.stderr


@pytest.mark.parametrize(
    ("told", "arguments", "code", "text"),
    [
        (mm1(), ["--rate", "10", "--p99", "9"], 1, "cannot be had from any number of replicas"),
        (mm1(), ["--rate", "500", "--replicas", "2"], 1, "more than 2 replicas can answer"),
        (mm1(), ["--rate", "10"], 2, "--p99"),
        (mm1(), ["--rate", "0", "--p99", "9"], 2, "--rate"),
        (mm1(), ["--rate", "nan", "--p99", "9"], 2, "--rate"),
        (mm1(), ["--rate", "inf", "--p99", "9"], 2, "--rate"),
        (mm1(), ["--rate", "10", "--p99", "nan"], 2, "--p99"),
        (mm1(), ["--rate", "10", "--replicas", "1" * 30], 2, "--replicas"),
        (mm1(), ["--rate", "10", "--p99", "98", "--spare", "1" * 400], 2, "--spare"),
        ("{", ["--rate", "10", "--p99", "9"], 2, "is no JSON"),
        ("[" * 100_000, ["--rate", "10", "--p99", "9"], 2, "is no JSON"),
        (mm1(), ["--rate", "10", "--p99", "9", "--max-utilization", "nan"], 2, "--max-utilization"),
        ({"points": 3}, ["--rate", "10", "--p99", "9"], 1, "expected a list of runs"),
    ],
)
def test_exit_codes(tmp_path: Path, told: Any, arguments: list[str], code: int, text: str) -> None:
    result = plan(tmp_path, told, *arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr
