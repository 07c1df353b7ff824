"""``pyserving predict``, ``status``, ``reload`` and ``bench`` against a whole server on real sockets."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "server"))

from model_files import SCALE, write_model
from running_server import RunningServer

from benchmarks.running import free_port
from pyserving.cli.main import main
from pyserving.platforms.python.options import PythonModels, PythonOptions

Run = Callable[..., Result]

MOODY = """
    import itertools
    import numpy as np
    from pyserving import InvalidInput, Model, Tensor

    class Moody(Model):
        def load(self, folder):
            self.calls = itertools.count()

        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            if next(self.calls) % 2:
                raise InvalidInput("not now")
            return x
    """
"""Answers every other request."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(
        [write_model(tmp_path_factory.mktemp("models"), "scale", SCALE)],
        python_options=PythonOptions(PythonModels.ON),
    )
    running.settled("scale")
    yield running
    running.stop()


@pytest.fixture
def rest(server: RunningServer) -> str:
    return f"http://{server.server.ports.rest_address}"


@pytest.fixture
def grpc_url(server: RunningServer) -> str:
    return f"grpc://{server.server.ports.grpc_addresses[0]}"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def nobody() -> str:
    """An address where nothing listens."""
    return f"127.0.0.1:{free_port()}"


def test_predict_prints_a_table_json_or_numpy_files(rest: str, grpc_url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1.0, 2.0]))
    inputs = ["-i", f"x={tmp_path / 'x.npy'}", "-i", "add=np.full((), 3.0)"]
    shown = run("predict", rest, *inputs)
    assert shown.exit_code == 0, shown.output
    assert "output_0" in shown.stdout
    assert "7" in shown.stdout
    assert "\x1b" not in shown.stdout
    answer = run("predict", grpc_url, "-m", "scale", *inputs, "--json")
    assert json.loads(answer.stdout) == {"outputs": {"output_0": [5.0, 7.0]}}
    written = run("predict", rest, *inputs, "-o", "npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(written.stdout_bytes)), np.array([5, 7], np.float32))


def test_predict_by_another_signature(rest: str, tmp_path: Path) -> None:
    answer = run("predict", rest, "-s", "describe", "-i", '["é", "ab"]', "-o", "json")
    assert json.loads(answer.stdout) == {"outputs": {"upper": ["É", "AB"], "size": [1, 2]}}
    several = run("predict", rest, "-s", "describe", "-i", '["é", "ab"]', "-o", "npy", "--outdir", str(tmp_path))
    assert several.exit_code == 0, several.output
    assert np.load(tmp_path / "upper.npy").tolist() == ["É".encode(), b"AB"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "URL", "-i", "x=hello"], 2, "a text is written in quotes"),
        (["predict", "URL", "-i", "x=nothing.npy"], 2, "there is no file nothing.npy"),
        (["predict", "URL", "-i", "x=[1]", "--image-size", "0"], 2, "0"),
        (["predict", "URL", "-i", "x=[1]", "--version", "1", "--label", "a"], 1, "a version or a label"),
        (["predict", "ftp://x", "-i", "x=[1]"], 2, "grpcs://"),
        (["predict", "URL", "-m", "other", "-i", "x=[1]"], 1, "NOT_FOUND"),
        (["predict", "URL", "-s", "other", "-i", "x=[1]"], 1, "has no signature other"),
        (["predict", "URL", "-i", "x=[1]", "-i", "add=[1, 2]"], 1, "INVALID_ARGUMENT"),
        (["predict", "NOBODY", "-m", "scale", "-i", "x=[1]"], 3, "nothing listens there"),
        (["status", "NOBODY"], 3, "nothing listens there"),
        (["status", "NOBODY", "--wait", "0.1"], 3, "not ready after 0.1 s"),
        (["status", "URL", "-m", "other", "--wait", "0.1"], 1, "not ready after 0.1 s"),
        (["bench", "NOBODY", "-m", "scale"], 3, "nothing listens there"),
        (["bench", "URL", "-i", "x=[NaN]", "-i", "add=1"], 2, "NaN is not allowed"),
        (["bench", "URL", "-s", "breaks", "-i", "x=[1]"], 1, "KeyError"),
        (["bench", "URL", "-d", "nan"], 2, "expected a number, got nan"),
        (["bench", "URL", "-r", "1e300"], 2, "--rate"),
        (["bench", "URL", "--rows", "1000000000000"], 2, "--rows"),
        (["bench", "URL", "--metrics", "GRPC"], 2, "--metrics is the REST port"),
        (["predict", "URL", "-i", "x=[1]", "--timeout", "nan"], 2, "expected a number, got nan"),
        (["status", "URL", "--wait", "nan"], 2, "expected a number, got nan"),
        (["status", "URL", "-m", "other"], 1, "NOT_FOUND"),
        (["reload", "URL", "missing.config"], 2, "missing.config"),
        (["predict", "GRPC", "-i", "x=[1]"], 1, "say which model with --model"),
        (["status", "GRPC"], 1, "say which model with --model"),
        (["show", "NOBODY"], 3, "nothing listens there"),
        (["show", "nothing:here"], 1, "there is no"),
        (["top", "NOBODY", "--once"], 3, "nothing listens there"),
        (["top", "URL", "--once", "--metrics-path", "/nothing"], 1, "NOT_FOUND"),
        (["top", "URL", "--once", "--interval", "nan"], 2, "expected a number, got nan"),
        (["top", "URL", "--once", "--interval", "1e300"], 2, "--interval"),
        (["top", "GRPC", "--once"], 2, "URL is the REST port"),
        (["promote", "scale", "--server", "NOBODY"], 3, "nothing listens there"),
        (["promote", "scale", "9", "--server", "URL"], 1, "Could not find version 9 of model scale"),
        (["promote", "other", "--server", "URL"], 1, "other"),
        (["promote", "scale", "--server", "GRPC"], 2, "--server is the REST port"),
        (["rollback", "scale", "--server", "URL"], 1, "has no version before 1"),
        (["rollback", "scale", "--server", "ftp://x"], 2, "http://"),
    ],
)
def test_exit_codes(rest: str, grpc_url: str, arguments: list[str], code: int, message: str) -> None:
    result = run(*({"URL": rest, "GRPC": grpc_url, "NOBODY": nobody()}.get(one, one) for one in arguments))
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_status(rest: str, grpc_url: str) -> None:
    shown = run("status", rest, "--wait", "30")
    assert shown.exit_code == 0, shown.output
    assert "AVAILABLE" in shown.stdout
    assert "\x1b" not in shown.stdout
    states: dict[str, Any] = json.loads(run("status", grpc_url, "-m", "scale", "--json").stdout)
    assert states["ready"]
    assert states["models"]["scale"][0]["state"] == "AVAILABLE"


def test_show_takes_addresses_as_other_commands_do(rest: str, grpc_url: str) -> None:
    for address, options in (
        (rest.removeprefix("http://"), ()),
        (grpc_url.removeprefix("grpc://"), ("--model", "scale")),
    ):
        shown = run("show", address, *options, "--json")
        assert shown.exit_code == 0, shown.output
        assert "describe" in shown.stdout


def test_promote_is_told_as_json(rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{nobody()}")  # proxies are not used
    done = run("promote", "scale", "--server", rest, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"model": "scale", "version": 1, "previous_version": 1}
    shown = run("promote", "scale", "1", "--server", rest.removeprefix("http://"))
    assert shown.stdout == "scale: version 1 is the default one, before it was version 1\n"


def test_every_command_that_answers_has_json() -> None:
    context = click.Context(main)
    told = {"serve": "serves until it is stopped", "completion": "prints a script", "remove": "prints nothing"}
    commands = [(name, main.get_command(context, name)) for name in main.list_commands(context)]
    while commands:
        name, command = commands.pop()
        assert command is not None
        if isinstance(command, click.Group):
            commands += command.commands.items()
        elif name not in told:
            assert any("--json" in option.opts for option in command.params), name


def test_reload(tmp_path: Path) -> None:
    first, second = (write_model(tmp_path, name, SCALE) for name in ("first", "second"))
    config = tmp_path / "models.config"
    entry = 'config {{ name: "{0.name}" base_path: "{0.base_path}" model_platform: "python" }}'
    config.write_text(f"model_config_list {{ {entry.format(second)} }}")
    running = RunningServer([first], python_options=PythonOptions(PythonModels.ON))
    try:
        running.settled("first")
        ports = running.server.ports
        refused = run("reload", f"http://{ports.rest_address}", str(config))
        assert (refused.exit_code, "over gRPC" in refused.stderr) == (1, True)
        done = run("reload", ports.grpc_addresses[0], str(config), "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["models"].keys() == {"second"}
        assert run("status", ports.rest_address, "-m", "second", "--wait", "30").exit_code == 0
        assert run("predict", ports.rest_address, "-m", "second", "-i", "x=[1]", "-i", "add=1").exit_code == 0
        config.write_text("model_config_list { nonsense")
        bad = run("reload", ports.grpc_addresses[0], str(config))
        assert (bad.exit_code, "no ModelServerConfig" in bad.stderr) == (2, True)
    finally:
        running.stop()


@pytest.mark.parametrize("how", [["-c", "2"], ["-c", "2", "--rate", "50"]])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_bench(rest: str, grpc_url: str, protocol: str, how: list[str], tmp_path: Path) -> None:
    url = rest if protocol == "rest" else grpc_url
    result = run("bench", url, "-m", "scale", "-d", "0.3", "--warmup", "0.1", *how, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["failed"] == 0
    assert found["requests"] >= 1
    assert found["requests_per_second"] > 0
    times = list(found["latency_ms"].values())[:6]
    assert times == sorted(times)


def test_bench_shows_a_histogram_and_writes_a_plot(rest: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "plot.png"
    result = run("bench", rest, "-d", "0.3", "--warmup", "0", "--png", str(picture))
    assert result.exit_code == 0, result.output
    assert "answers a second" in result.stdout
    assert "█" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bench_counts_failures(tmp_path: Path) -> None:
    running = RunningServer([write_model(tmp_path, "moody", MOODY)], python_options=PythonOptions(PythonModels.ON))
    try:
        running.settled("moody")
        url = f"http://{running.server.ports.rest_address}"
        result = run("bench", url, "-d", "0.2", "--warmup", "0", "-c", "1", "--json")
    finally:
        running.stop()
    assert result.exit_code == 1, result.output
    found = json.loads(result.stdout)
    assert abs(found["failed"] - found["requests"] / 2) <= 1
    assert list(found["failures"]) == ["INVALID_ARGUMENT: not now"]
    assert f"{found['failed']} of {found['requests']} requests failed" in result.stderr
