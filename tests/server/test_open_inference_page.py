"""docs/open-inference-protocol.md: what it shows is what comes."""

import json
import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import RunningServer

from pyserving.sources.model_config import ModelConfig

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "open-inference-protocol.md").read_text()
SHOWN = re.findall(r"^\$ (curl .*)\n(.*)$", PAGE, re.MULTILINE)
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def server(models_folder: Path) -> Iterator[RunningServer]:
    running = RunningServer(
        [ModelConfig("half_plus_two", str(models_folder / "half_plus_two_tf2"))], open_inference_protocol=True
    )
    running.settled("half_plus_two")
    yield running
    running.stop()


@pytest.mark.parametrize(("command", "answer"), SHOWN)
def test_what_curl_gets(server: RunningServer, command: str, answer: str) -> None:
    _, _, url, *rest = shlex.split(command)
    data = rest[rest.index("-d") + 1].encode() if rest else None
    url = "http://" + url.replace("localhost:8501", server.server.ports.rest_address)
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as response:
        assert json.loads(response.read()) == json.loads(answer)


def test_the_client(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tritonclient.http", reason="needs tritonclient")
    (code,) = PYTHON
    exec(code.replace("localhost:8501", server.server.ports.rest_address), {})
    (expected,) = re.findall(r"# (\[.*\])", code)
    assert capsys.readouterr().out.strip() == expected
