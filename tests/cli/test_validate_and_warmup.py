"""``pyserving validate`` and ``pyserving warmup``."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pyserving.cli.main import main
from pyserving.protos import messages
from pyserving.server.warmup import FILE
from pyserving.validation.samples import Method, read_samples
from pyserving.wire.tensor_proto import write_tensor
from pyserving.wire.tfrecord import frame_record

ModelDir = Callable[[str], Path]
HUNGRY = """
import numpy as np, os, time
from pyserving import Model, Tensor

class Odd(Model):
    def predict(self, x: Tensor["int32", None]) -> Tensor["int32", None]:
        if x[0] == 1:
            os._exit(9)
        if x[0] == 2:
            time.sleep(600)
        return np.ones(200_000_000, np.int32)[: len(x)].copy()
"""


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


def verdict(*arguments: object) -> dict[str, Any]:
    done = invoke("validate", *arguments, "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (0 if found["blessed"] else 1)
    assert found["blessed"] == (not found["reason"])
    return found


def test_a_pushed_version_is_blessed(model_dir: ModelDir, tmp_path: Path) -> None:
    """A TFX Pusher's folder: versions named by the time."""
    for version, model in ((1_700_000_000, "half_plus_three"), (1_800_000_000, "half_plus_two_tf2")):
        shutil.copytree(model_dir(model) / "1", tmp_path / "pushed" / str(version))
    (tmp_path / "blessing").mkdir()
    (tmp_path / "blessing" / "INFRA_NOT_BLESSED").touch()
    found = verdict(tmp_path / "pushed", "--bless", tmp_path / "blessing", "--signature", "serving_default")
    assert (found["version"], found["requests"], found["requests_from"]) == (1_800_000_000, 1, "made up")
    assert [path.name for path in (tmp_path / "blessing").iterdir()] == ["INFRA_BLESSED"]
    assert invoke("validate", tmp_path / "pushed").stdout.startswith("BLESSED")


def test_answers_are_compared_with_those_expected(model_dir: ModelDir, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text(
        '{"instances": [1.0, 2.0, 5.0], "expected": [2.5, 3.0, 4.5]}\n'
        '{"inputs": {"x": [1.0]}, "expected": {"y": [2.51]}}\n{"instances": [9]}\n'
    )
    found = verdict(model_dir("half_plus_two_tf2"), "--requests", requests, "--bless", tmp_path / "b")
    assert (found["agreed"], found["differed"], found["unchecked"]) == (1, 1, 1)
    assert found["reason"].startswith("request 2 (serving_default): output y: element [0] is 2.5, expected 2.51")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["INFRA_NOT_BLESSED"]
    assert verdict(model_dir("half_plus_two_tf2"), "--requests", requests, "--absolute", "0.1")["blessed"]


def test_a_request_log_has_the_answers_that_are_expected(model_dir: ModelDir, tmp_path: Path) -> None:
    log = messages.PredictionLog()
    log.predict_log.request.inputs["x"].MergeFromString(write_tensor(np.float32([4])))
    log.predict_log.response.outputs["y"].MergeFromString(write_tensor(np.float32([4])))
    (tmp_path / "log.tfrecord").write_bytes(frame_record(log.SerializeToString()))
    assert verdict(model_dir("half_plus_two_tf2"), "--requests", tmp_path / "log.tfrecord")["agreed"] == 1
    assert verdict(model_dir("half_plus_three"), "--requests", tmp_path / "log.tfrecord")["differed"] == 1


def test_what_is_refused(model_dir: ModelDir, tmp_path: Path) -> None:
    whole = model_dir("half_plus_two_tf2") / "1"
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "saved_model.pb").write_bytes((whole / "saved_model.pb").read_bytes()[:500])
    assert verdict(tmp_path / "cut")["reason"].startswith("it does not load: ")
    assert "no signature nosuch: there are serving_default" in verdict(whole, "--signature", "nosuch")["reason"]
    assert "it does not load: " in verdict(whole, "--tags", "serve,gpu")["reason"]
    (tmp_path / "wrong.jsonl").write_text('{"instances": [["a"]]}\n')
    done = invoke("validate", whole, "--requests", tmp_path / "wrong.jsonl")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "wrong.jsonl, line 1" in done.stderr
    assert "there is no" in invoke("validate", tmp_path / "nosuch").stderr


def test_code_and_libraries_as_a_server_takes_them(model_dir: ModelDir, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.py").write_text(HUNGRY)
    assert "python-models" in verdict(tmp_path / "1", "--python-models", "off")["reason"]
    found = importlib.util.find_spec("tensorflow_text")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs tensorflow-text")
    library = Path(found.submodule_search_locations[0], "python", "ops", "_regex_split_ops.so")
    assert "does not load" in verdict(model_dir("text_ops"))["reason"]
    assert verdict(model_dir("text_ops"), "--op-library", library)["blessed"]


@pytest.mark.parametrize(
    ("value", "options", "reason"),
    [
        (1, (), "ended (exit code 9)"),
        (2, ("--request-timeout", "0.2"), ""),
        (3, ("--memory-limit", 300_000_000), ""),
    ],
)
def test_a_model_that_crashes_hangs_or_grows(
    tmp_path: Path, value: int, options: tuple[object, ...], reason: str
) -> None:
    (tmp_path / "model.py").write_text(HUNGRY)
    (tmp_path / "requests.jsonl").write_text(f'{{"instances": [{value}]}}\n')
    found = verdict(tmp_path / "model.py", "--requests", tmp_path / "requests.jsonl", *options)
    assert found["failed"] == 1
    assert reason in found["reason"]


def test_warmup_files_from_numbers_lines_and_logs(model_dir: ModelDir, tmp_path: Path) -> None:
    shutil.copytree(model_dir("half_plus_two") / "00000123", tmp_path / "m" / "123")
    file = tmp_path / "m" / "123" / FILE
    (tmp_path / "requests.jsonl").write_text(
        '{"instances": [[1.0]]}\n'
        '{"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}]}\n'
        '{"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]}\n'
    )
    done = invoke("warmup", tmp_path / "m", "--from", tmp_path / "requests.jsonl", "--json")
    assert done.exit_code == 0, done.stderr
    assert [sample.method for sample in read_samples(str(file), "warmup")] == [
        Method.PREDICT,
        Method.CLASSIFY,
        Method.REGRESS,
    ]
    shown = invoke("warmup", tmp_path / "m", "--show")
    assert "3 requests" in shown.stdout
    assert "2 examples" in shown.stdout
    records = json.loads(invoke("warmup", tmp_path / "m", "--show", "--json").stdout)["records"]
    assert records == json.loads(done.stdout)["records"]
    # A request log is such a file, too.
    (tmp_path / "request.log").write_bytes(file.read_bytes())
    assert invoke("warmup", tmp_path / "m", "--from", tmp_path / "request.log").exit_code == 0
    assert len(list(read_samples(str(file), "warmup"))) == 3
    assert "may hold 1000" in invoke("warmup", tmp_path / "m", "--from", "99999999999999").stderr
    # Text that is no tf.Example is no request for these signatures: it is left out.
    done = invoke("warmup", tmp_path / "m", "--from", "2")
    assert "left out: request" in done.stderr
    assert {sample.signature_name for sample in read_samples(str(file), "warmup")} == {"serving_default"}
    assert json.loads(invoke("show", tmp_path / "m", "--json").stdout)["warmup_records"] == 2


def test_no_warmup_changes_a_model(model_dir: ModelDir, tmp_path: Path) -> None:
    shutil.copytree(model_dir("counter") / "1", tmp_path / "1")
    assert invoke("warmup", tmp_path / "1", "--from", "1").exit_code == 0
    assert {sample.signature_name for sample in read_samples(str(tmp_path / "1" / FILE), "warmup")} == {
        "serving_default"
    }


def test_a_warmup_that_fails_leaves_the_file_as_it_was(model_dir: ModelDir, tmp_path: Path) -> None:
    shutil.copytree(model_dir("half_plus_two_tf2") / "1", tmp_path / "1")
    assert invoke("warmup", tmp_path / "1").exit_code == 0
    before = (tmp_path / "1" / FILE).read_bytes()
    (tmp_path / "requests.jsonl").write_text('{"inputs": {"x": [1.0]}}\n{"inputs": {"z": [1.0]}}\n')
    done = invoke("warmup", tmp_path / "1", "--from", tmp_path / "requests.jsonl")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "requests.jsonl, line 2" in done.stderr
    assert (tmp_path / "1" / FILE).read_bytes() == before
    assert [path.name for path in (tmp_path / "1" / FILE).parent.iterdir()] == [(tmp_path / "1" / FILE).name]
