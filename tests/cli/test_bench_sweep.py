"""``pyserving bench --sweep`` against a real server, and what it says of the server itself."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "server"))

from model_files import write_model
from running_server import RunningServer

from benchmarks.running import free_port
from pyserving.cli.main import main
from pyserving.planning.benchmark import read_benchmark
from pyserving.planning.station import measured_station
from pyserving.platforms.python.options import PythonModels, PythonOptions

QUICK = """
    import numpy as np
    from pyserving import Model, Tensor

    class Quick(Model):
        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return x
    """


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(
        [write_model(tmp_path_factory.mktemp("models"), "quick", QUICK)], python_options=PythonOptions(PythonModels.ON)
    )
    running.settled("quick")
    yield running
    running.stop()


@pytest.fixture
def rest(server: RunningServer) -> str:
    return f"http://{server.server.ports.rest_address}"


def test_a_sweep_can_be_planned_from(rest: str, tmp_path: Path) -> None:
    result = run("bench", rest, "--sweep", "-d", "0.1", "--warmup", "0.05", "-c", "3", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    points = told["points"]
    assert points[0]["requests"] >= 1000
    closed = [point["connections"] for point in points if point["rate"] is None]
    assert closed == [1, 2, 3][: len(closed)]
    rates = [point["rate"] for point in points if point["rate"] is not None]
    highest = max(point["requests_per_second"] for point in points if point["rate"] is None)
    assert rates == pytest.approx([0.3 * highest, 0.5 * highest, 0.7 * highest])
    for point in points:
        assert point["server"]["cpu_ms_per_request"] > 0
        assert point["server"]["memory_bytes"] > 1e6
    times = points[0]["service_times_ms"]
    assert times == sorted(times)
    assert sum(times) / len(times) == pytest.approx(points[0]["latency_ms"]["mean"], rel=1e-6)
    benchmark = read_benchmark(told)
    assert measured_station(benchmark).mean == pytest.approx(benchmark.closed[0].mean)


def test_the_table_of_a_sweep(rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyserving.cli.load_runs._ENOUGH", 10)
    result = run("bench", rest, "--sweep", "-d", "0.1", "--warmup", "0", "-c", "1")
    assert result.exit_code == 0, result.output
    assert "1 connections" in result.stdout
    assert "a second" in result.stdout


def test_metrics_of_a_grpc_server(server: RunningServer, rest: str) -> None:
    grpc = f"grpc://{server.server.ports.grpc_addresses[0]}"
    short = ["-m", "quick", "-d", "0.1", "--warmup", "0", "--json"]
    assert json.loads(run("bench", grpc, *short).stdout)["server"] is None
    assert json.loads(run("bench", grpc, *short, "--metrics", rest).stdout)["server"]["cores"] > 0
    # Where nobody has metrics there are none.
    nobody = f"http://127.0.0.1:{free_port()}"
    assert json.loads(run("bench", grpc, *short, "--metrics", nobody).stdout)["server"] is None


def test_a_sweep_chooses_its_rates(rest: str) -> None:
    result = run("bench", rest, "--sweep", "--rate", "10")
    assert result.exit_code == 2
    assert "--sweep" in result.stderr
