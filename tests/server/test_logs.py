"""The log: a line per event, in text or JSON."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_server import RunningServer

from pyserving.cli.model_server import serve
from pyserving.protos import messages
from pyserving.server.logs import LogFormat, log_to_stderr
from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]
ModelDir = Callable[[str], Path]


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_the_life_of_a_model(start: Start, model_dir: ModelDir, capfd: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(form=LogFormat.JSON)
    base_path = str(model_dir("half_plus_three"))
    server = start([ModelConfig("m", base_path)])
    server.settled("m")
    server.reload([])
    server.stop()
    lines = json_lines(capfd.readouterr().err)
    events = [line["event"] for line in lines if line.get("model") == "m"]
    # What tells of the source and what tells of the version come from two threads.
    assert events[:2] == ["adding_model", "adding"] or events[:2] == ["adding_model", "aspired_versions_changed"]
    assert [event for event in events if event in LIFE] == LIFE
    assert {"aspired_versions_changed", "removing_model"} <= set(events)
    by_event = {line["event"]: line for line in lines if "event" in line}
    assert by_event["adding_model"]["base_path"] == base_path
    loaded = by_event["loaded"]
    assert (loaded["model"], loaded["version"], loaded["level"]) == ("m", 2, "INFO")
    assert loaded["ms"] > 0
    assert loaded["message"] == f"Loaded servable {{name: m version: 2}} in {loaded['ms']:.0f} ms"
    assert by_event["aspired_versions_changed"]["versions"] == []


LIFE = ["adding", "loading", "loaded", "unloading", "unloaded"]


def test_a_model_that_fails_in_text(start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "saved_model.pb").write_bytes(b"broken")
    log_to_stderr()
    server = start([ModelConfig("b", str(tmp_path))])
    server.settled("b")
    server.stop()
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "pyserving.server] Servable" in line]
    assert ": E pyserving.server] Servable {name: b version: 7} failed: " in line


def test_a_changed_model_is_told_of(start: Start, model_dir: ModelDir, capfd: pytest.CaptureFixture[str]) -> None:
    server = start([ModelConfig("m", str(model_dir("half_plus_three")))])
    server.settled("m")
    log_to_stderr(form=LogFormat.JSON)
    elsewhere = str(model_dir("half_plus_two_tf2"))
    server.reload([messages.ModelConfig(name="m", base_path=elsewhere, model_platform="tensorflow")])
    changes = [line for line in json_lines(capfd.readouterr().err) if line.get("event") == "changing_model"]
    assert [line["base_path"] for line in changes] == [elsewhere]


def test_what_json_lines_hold(capfd: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(form=LogFormat.JSON)
    logger = logging.getLogger("pyserving.test")
    logger.warning('a "quote"\nand a line', extra={"fields": {"event": "said", "where": Path("/x")}})
    logger.info("%s", "odd \udcff bytes")
    try:
        raise ValueError("gone")
    except ValueError:
        logger.exception("bad")
    said, odd, bad = json_lines(capfd.readouterr().err)
    assert said["message"] == 'a "quote"\nand a line'
    assert (said["event"], said["where"], said["level"]) == ("said", "/x", "WARNING")
    assert said["logger"] == "pyserving.test"
    assert said["time"].endswith("+00:00")
    assert "odd \\udcff bytes" in odd["message"]
    assert "ValueError: gone" in bad["traceback"]


def test_a_format_that_is_not_known(capfd: pytest.CaptureFixture[str]) -> None:
    assert serve(["--log_format=xml", "--model_base_path=/m"], {}) == 255
    assert "--log_format must be text or json, got xml" in capfd.readouterr().err
