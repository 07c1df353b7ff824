"""``pyserving show URL``: the signatures that a server tells."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from running_server import RunningServer

from pyserving.cli.main import main
from pyserving.sources.model_config import ModelConfig

ModelDir = Callable[[str], Path]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_signatures_of_a_served_model(model_dir: ModelDir, start: Callable[..., RunningServer], scheme: str) -> None:
    running = start([ModelConfig("m", str(model_dir("dims"))), ModelConfig("other", str(model_dir("strings")))])
    running.settled("m")
    ports = running.server.ports
    address = f"{scheme}://{ports.rest_address if scheme == 'http' else ports.grpc_addresses[0]}"
    done = CliRunner().invoke(main, ["show", address, "--model", "m", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    served = json.loads(done.stdout)["graphs"][0]["signatures"]
    local = json.loads(CliRunner().invoke(main, ["show", str(model_dir("dims")), "--json"]).stdout)
    del local["graphs"][0]["signatures"]["__saved_model_init_op"]  # nothing that can be asked for
    assert served == local["graphs"][0]["signatures"]


def test_a_server_that_is_gone() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        done = CliRunner().invoke(main, ["show", f"http://127.0.0.1:{free.getsockname()[1]}", "--model", "m"])
    assert (done.exit_code, done.stdout) == (3, "")
    assert "cannot show" in done.stderr
