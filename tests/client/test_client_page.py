"""Every block of docs/client.md runs, against a server on the ports that it names."""

import contextlib
import io
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from running_server import RunningServer

from pyserving.cli.main import main
from pyserving.sources.model_config import ModelConfig

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.S)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def ports(models_folder: Path) -> Iterator[tuple[int, int]]:
    config = ModelConfig("half_plus_two", str(models_folder / "half_plus_two_tf2"))
    server = RunningServer([config])
    server.settled("half_plus_two")
    addresses = server.server.ports
    yield tuple(int(one.rpartition(":")[2]) for one in (addresses.grpc_addresses[0], addresses.rest_address))
    server.stop()


@pytest.fixture(autouse=True)
def custom_ports(ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What listens at 8500 and 8501 of this machine is not ours."""
    monkeypatch.setattr("pyserving.client.address.GRPC_PORT", ports[0])
    monkeypatch.setattr("pyserving.client.address.REST_PORT", ports[1])
    with socket.create_connection(("localhost", ports[0]), 10):
        pass


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python(number: int) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(PYTHON[number], f"block {number} of client.md", "exec"), {"__name__": "__main__"})
    for line in PYTHON[number].splitlines():
        code, _, comment = line.partition("  # ")
        if code.lstrip().startswith("print(") and comment:
            assert comment in printed.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "pyserving"
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
