"""``pyserving optimize`` finds what a server would find, and a server finds what it has found."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from serving import Serving
from waiting import wait_until

from pyserving.acceleration.engines import OpenVinoEngine
from pyserving.cli.main import main
from pyserving.protos import messages
from pyserving.wire.tfrecord import frame_record

pytest.importorskip("openvino")
UNKNOWN = "the shapes of its inputs are not known, and no recorded request shows them"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["optimize", "--engine=openvino", *map(str, arguments)])


def found(folder: Path, cache: Path, *arguments: str) -> dict[str, Any]:
    """What it prints as JSON, by signature."""
    result = run(folder, f"--acceleration-cache={cache}", "--json", *arguments)
    assert result.exit_code == 0, result.output
    signatures: dict[str, Any] = json.loads(result.stdout)["signatures"]
    return signatures


def entries(cache: Path) -> dict[str, int]:
    """All files with something in them, and when each was written."""
    files = (path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path): path.stat().st_mtime_ns for path in files}


def engines_of(server: Serving, wanted: set[str]) -> dict[str, Any]:
    """Waits until the server has found something of each signature."""
    engines: dict[str, Any] = {}

    def are_found() -> bool:
        nonlocal engines
        engines = server.get("/v1/models")[1]["models"]["pictures"]["engines"].get("1", {})
        return all(engines.get(name, {}).get("others") or engines[name]["engine"] != "tensorflow" for name in wanted)

    wait_until(are_found, lambda: str(engines))
    return engines


@pytest.fixture
def version(optimize_models_folder: Path, tmp_path: Path) -> Path:
    """A copy, to be written to."""
    folder = tmp_path / "models" / "pictures" / "1"
    shutil.copytree(optimize_models_folder / "pictures" / "1", folder)
    return folder


def record_request(version: Path) -> None:
    log = messages.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = "any_size"
    tensor = request.inputs["x"]
    tensor.dtype = 1
    array = np.random.default_rng(1).random((1, 60, 70, 8), np.float32)
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = array.tobytes()
    (version / "assets.extra").mkdir()
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(frame_record(log.SerializeToString()))


def test_a_server_switches_to_what_was_found_and_compiles_nothing(version: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert found(version, cache)["any_size"] == {"engine": "tensorflow", "tried": {}, "others": {"openvino": UNKNOWN}}
    record_request(version)
    signatures = found(version, cache)
    assert {name: len(each["tried"]["openvino"]["timings"]) for name, each in signatures.items()} == {
        "serving_default": 3,
        "any_size": 3,
    }
    before = entries(cache)
    assert all(each["tried"]["openvino"]["cached"] for each in found(version, cache).values())
    arguments = ("--accelerate=openvino", f"--acceleration-cache={cache}")
    server = Serving(str(version.parents[1]), *arguments).wait_until_ready()
    try:
        engines = engines_of(server, set(signatures))
    finally:
        assert server.stop() == 0
    assert entries(cache) == before
    for name, each in signatures.items():
        assert engines[name] == {"engine": each["engine"], "others": each["others"]}


def test_other_threads_are_another_entry(version: Path, tmp_path: Path) -> None:
    found(version, tmp_path / "cache", "--threads=1")
    assert not found(version, tmp_path / "cache")["serving_default"]["tried"]["openvino"]["cached"]


def test_the_table_names_signatures_and_engines(version: Path, tmp_path: Path) -> None:
    result = run(version, f"--acceleration-cache={tmp_path / 'cache'}")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines() if " x " in line][:1] == ["serving_default"]
    assert f"any_size: tensorflow\n  not openvino: {UNKNOWN}" in result.stdout


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("none", "no folder at"),
        ("models", "should have a file called `saved_model.pb`"),
        ("models/pictures", "holds versions; expected one of them, such as"),
        ("models/pictures/1/saved_model.pb", "is a file; expected the folder of a version"),
    ],
)
def test_what_cannot_be_loaded_is_named(version: Path, path: str, text: str) -> None:
    result = run(version.parents[2] / path)
    assert result.exit_code == 1
    assert text in result.output


def test_recorded_requests_that_fail_are_named(version: Path) -> None:
    (version / "assets.extra").mkdir()
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no record")
    result = run(version)
    assert result.exit_code == 1
    assert "Please verify your warmup data is in TFRecord format" in result.output


def test_without_an_engine_it_says_what_to_install(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVinoEngine, "is_installed", lambda _: False)
    result = run(version)
    assert result.exit_code == 1
    assert "pip install 'pyserving[openvino]'" in result.output
