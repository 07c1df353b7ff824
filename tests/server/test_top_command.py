"""``pyserving top`` and ``pyserving show URL`` of a server on a socket."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner
from model_files import SCALE, write_model
from running_server import RunningServer

from pyserving.cli.main import main
from pyserving.monitoring.exposition import write_page
from pyserving.monitoring.page_reader import read_page
from pyserving.platforms.python.options import PythonModels, PythonOptions

Start = Callable[..., RunningServer]


def test_what_a_server_does(start: Start, tmp_path: Path) -> None:
    model = write_model(tmp_path, "scale", SCALE)
    server = start([model], python_options=PythonOptions(PythonModels.ON))
    server.settled("scale")
    for _ in range(3):
        server.post("scale:predict", {"inputs": {"x": [1.0], "add": 1.0}})
    url = f"http://{server.server.ports.rest_address}"  # type: ignore[union-attr]
    result = CliRunner().invoke(main, ["top", url, "--once", "--json", "--interval", "0.1"])
    assert result.exit_code == 0, result.output
    state = json.loads(result.stdout)
    assert state["memory_bytes"] > 0
    assert state["models"]["scale"]["versions"] == {"1": "AVAILABLE"}
    assert (state["models"]["scale"]["qps"], state["models"]["scale"]["errors"]) == (0, 0)
    shown = CliRunner().invoke(main, ["top", url, "--once", "--interval", "0.1"])
    assert "scale" in shown.stdout
    assert "1 AVAILABLE" in shown.stdout
    page = write_page(server.server._front.metrics.collect())
    assert write_page(read_page(page.decode())) == page
    described = CliRunner().invoke(main, ["show", url, "--token", "none", "--json"])
    assert described.exit_code == 0, described.output


def test_no_server() -> None:
    result = CliRunner().invoke(main, ["top", "http://127.0.0.1:9", "--once"])
    assert result.exit_code == 3
