"""docs/rollout.md: its configs are served, and its commands run."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from golden_requests import golden, write_linear
from google.protobuf import text_format
from running_server import RunningServer
from test_version_gate import ON, load, predict
from waiting import wait_until

from pyserving.cli.main import main
from pyserving.protos import messages
from pyserving.sources.model_config import models_from_config

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rollout.md").read_text()
CONFIGS = re.findall(r"```proto\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^pyserving .*$", PAGE, re.MULTILINE)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "linear"
    write_linear(base, 1)
    (tmp_path / "linear-golden.tfrecord").write_bytes(golden(1, 2, 3))
    gate, canary = (
        text_format.Parse(
            text.replace("/models/", f"{tmp_path}/").replace('name: "linear"', 'name: "m"'),
            messages.ModelServerConfig(),
            descriptor_pool=messages.POOL,
        )
        for text in CONFIGS
    )
    models = models_from_config(gate)
    assert models is not None
    server = RunningServer(models, python_options=ON)
    try:
        server.settled("m", 1)
        serving = server.server.directory.serving
        with load(server):
            write_linear(base, 2, add=1.001)
            wait_until(lambda: serving.available("m") == [2])
        ports = server.server.ports
        assert ports is not None
        for command in COMMANDS:
            line = command.replace("/models/", f"{tmp_path}/").replace("127.0.0.1:8501", ports.rest_address or "")
            program, *arguments = shlex.split(line.replace(" linear", " m"))
            assert program == "pyserving"
            if arguments[0] in ("promote", "rollback"):
                arguments.append(f"--server=http://{ports.rest_address}")
            if arguments[0] == "replay" and arguments[2].startswith("http"):
                CliRunner().invoke(main, ["rollback", "m", f"--server=http://{ports.rest_address}"])
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, (line, result.output)
        server.reload(list(canary.model_config_list.config))
        server.settled("m", 2)
        assert predict(server, 1.0, "m/versions/1") == 3.0
        assert {round(predict(server, 1.0), 3) for _ in range(300)} == {3.0, 3.001}
    finally:
        server.stop()
    assert len(COMMANDS) == 5
