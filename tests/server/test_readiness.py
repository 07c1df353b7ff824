"""What /readyz and gRPC health say of models that are pinned, broken, or in processes of their own."""

import json
import os
import signal
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_files import SCALE, write_model
from running_server import RunningServer
from waiting import wait_until

from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server import readiness
from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]


def readyz(server: RunningServer) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://{server.server.ports.rest_address}/readyz", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def check(server: RunningServer, service: str) -> int:
    request = messages.HealthCheckRequest(service=service)
    status: int = server.call("/grpc.health.v1.Health/Check", request, messages.HealthCheckResponse).status
    return status


SERVING = messages.HealthCheckResponse.SERVING


def test_a_pinned_default_version_that_is_not_there(
    start: Start, model_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = model_dir("half_plus_two_tf2")
    version = next(folder.iterdir())
    (tmp_path / "1").symlink_to(version)
    options = messages.ModelOptions()
    options.traffic.default_version = 2
    server = start([ModelConfig("m", str(tmp_path), options=options)])
    server.settled("m", 1)
    assert readyz(server) == (
        503,
        {"ready": False, "draining": False, "missing": ["m"], "reasons": {"m": "its default version 2 is not found"}},
    )
    assert check(server, "m") != SERVING
    (tmp_path / "2").symlink_to(version)
    server.settled("m", 2)
    wait_until(lambda: readyz(server)[0] == 200)
    assert check(server, "m") == check(server, "") == SERVING


def test_a_version_that_has_failed_is_named_without_its_error(start: Start, tmp_path: Path) -> None:
    (tmp_path / "m" / "3").mkdir(parents=True)
    (tmp_path / "m" / "3" / "saved_model.pb").write_bytes(b"none")
    server = start([ModelConfig("m", str(tmp_path / "m"))])
    server.settled("m")
    wait_until(lambda: readyz(server)[1]["reasons"] == {"m": "version 3 has failed"})


def test_a_process_that_stays_away(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "DOWN_SECONDS", 0.0)
    model = write_model(tmp_path, "m", SCALE)
    server = start([model], python_options=PythonOptions(PythonModels.PROCESS))
    server.settled("m")
    wait_until(lambda: readyz(server)[0] == 200)
    served = server.server.directory.serving.peek("m")
    (tmp_path / "m" / "1" / "model.py").write_text("no python any more")
    os.kill(served.pid, signal.SIGKILL)
    wait_until(lambda: readyz(server)[1]["reasons"] == {"m": "its process is down"})
    assert check(server, "m") != SERVING
    (tmp_path / "m" / "1" / "model.py").write_text(textwrap.dedent(SCALE))
    wait_until(lambda: readyz(server)[0] == 200)
