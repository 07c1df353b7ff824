"""``pyserving export``: what is exported is served as it was, and a version is there as a whole or not at all."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pyserving.cli.main import main
from pyserving.core.servable import ServableId
from pyserving.exporting import staging
from pyserving.exporting.job import Job, to_line
from pyserving.exporting.signature_text import InputText, read_input_signature
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.tensorflow.checkpoint_index import read_variables
from pyserving.server.local_version import load_here
from pyserving.server.warmup import FILE as WARMUP
from pyserving.sources.file_system import FileSystemSource, MonitoredServable
from pyserving.sources.version_folders import VersionPath
from pyserving.validation.samples import read_samples

ModelDir = Callable[[str], Path]
MODELS = str(Path(__file__).parent / "exported_models.py")
FLOATS = [InputText("x", "float32", (None, 3))]
X = np.float32([[1, 2, 3], [0, 1, 0]])
DENSE = X @ np.arange(6, dtype=np.float32).reshape(3, 2) + np.float32([0.5, -0.5])

JOBS: dict[str, dict[str, Any]] = {
    "sequential": {"source": f"{MODELS}:sequential"},  # it writes the files that others read
    "keras_file": {"source": "dense.keras"},
    "h5_file": {"source": "dense.h5"},
    "custom": {"source": "times.keras", "custom_objects": [f"{MODELS}:Times"]},
    "custom_missing": {"source": "times.keras"},
    "subclassed": {
        "source": f"{MODELS}:Subclassed",
        "signatures": {"classify": "classify"},
        "input_signatures": {"": FLOATS, "classify": FLOATS},
    },
    "subclassed_unknown": {"source": f"{MODELS}:Subclassed"},
    "module": {
        "source": f"{MODELS}:Module",
        "signatures": {"plus": "plus"},
        "input_signatures": {"plus": [InputText("a", "int64", None), InputText("b", "int64", None)]},
    },
    "function": {"source": f"{MODELS}:triple"},
    "nothing": {"source": f"{MODELS}:Nothing"},
    "no_method": {"source": f"{MODELS}:Module", "signatures": {"other": "nosuch"}},
    "no_object": {"source": f"{MODELS}:nosuch"},
    "no_model": {"source": f"{MODELS}:number"},
    "no_module": {"source": "nosuch_package.models:model"},
    "no_dtype": {"source": f"{MODELS}:Module", "input_signatures": {"": [InputText("x", "flaot", None)]}},
}


def export(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["export", *map(str, arguments)], catch_exceptions=False)


def refused(*arguments: object) -> str:
    done = export(*arguments)
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    assert "Traceback" not in done.stderr
    return str(done.stderr)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder in which each of ``JOBS`` has exported into the folder of its name, and their answers."""
    pytest.importorskip("h5py")
    root = tmp_path_factory.mktemp("exported")
    process = subprocess.Popen(
        [sys.executable, "-m", "pyserving.exporting.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=root,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answers = {}
    for name, fields in JOBS.items():
        process.stdin.write(to_line(Job(folder=str(root / name), **fields)))
        process.stdin.flush()
        answers[name] = json.loads(process.stdout.readline())
    process.stdin.close()
    assert process.wait(30) == 1, "it ends with its input"
    process.stdout.close()
    return root, answers


def computed(folder: Path, signature: str = "", **inputs: Any) -> dict[str, Any]:
    with load_here(str(folder), ServableId("m", 1), PlatformContext()) as version:
        (found,) = version.predict(signature, inputs)
        return found


@pytest.mark.parametrize("name", ["sequential", "keras_file", "h5_file", "custom"])
def test_keras_models_answer_as_before(exported: tuple[Path, dict[str, Any]], name: str) -> None:
    root, answers = exported
    assert answers[name] == {"error": "", "signatures": ["serving_default"]}
    with load_here(str(root / name), ServableId("m", 1), PlatformContext()) as version:
        (alias,) = version.model.signatures["serving_default"].inputs
        ((answer,),) = [piece.values() for piece in version.predict("", {alias: X})]
    np.testing.assert_allclose(answer, DENSE * 3 if name == "custom" else DENSE, rtol=1e-5)


def test_nothing_of_the_training_is_exported(exported: tuple[Path, dict[str, Any]]) -> None:
    root, _ = exported
    shown = json.loads(CliRunner().invoke(main, ["show", str(root / "sequential"), "--json"]).stdout)
    text = json.dumps(shown["graphs"])
    assert "Adam" not in text
    assert "optimizer" not in text


@pytest.mark.parametrize("name", ["sequential", "keras_file", "h5_file"])
def test_no_weight_is_stored_twice(exported: tuple[Path, dict[str, Any]], name: str) -> None:
    """The model is a layer of 3 x 2 weights and 2 biases."""
    stored = read_variables(str(exported[0] / name))
    assert sorted(tuple(variable.shape) for variable in stored) == [(2,), (3, 2)]


def test_several_signatures(exported: tuple[Path, dict[str, Any]]) -> None:
    root, answers = exported
    assert answers["subclassed"] == {"error": "", "signatures": ["classify", "serving_default"]}
    found = computed(root / "subclassed", "classify", x=X)
    np.testing.assert_allclose(found["score"], X.sum(axis=1))
    assert answers["module"] == {"error": "", "signatures": ["plus", "serving_default"]}
    assert computed(root / "module", x=np.float32([4]))["y"].tolist() == [8]
    assert computed(root / "module", "plus", a=np.int64([1]), b=np.int64([2]))["sum"].tolist() == [3]
    assert computed(root / "function", x=np.float32([4]))["y"].tolist() == [12]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("custom_missing", "Times"),
        ("subclassed_unknown", "say what it takes, such as --input-signature 'x=float32[?,3]'"),
        ("nothing", "Nothing has no signature: say which method is one"),
        ("no_method", "Module has no method nosuch"),
        ("no_object", "has no nosuch"),
        ("no_model", "expected a Keras model, a tf.Module, a tf.function or a function that makes one, got int"),
        ("no_module", "nosuch_package.models cannot be imported"),
        ("no_dtype", "there is no dtype flaot"),
    ],
)
def test_what_cannot_be_exported(exported: tuple[Path, dict[str, Any]], name: str, text: str) -> None:
    _, answers = exported
    assert text in answers[name]["error"]
    assert "Traceback" not in answers[name]["error"]


def test_versions_are_numbered(model_dir: ModelDir, tmp_path: Path) -> None:
    source, base = model_dir("half_plus_two_tf2") / "1", tmp_path / "m"
    assert json.loads(export(source, base, "--json").stdout)["path"] == str(base / "1")
    assert json.loads(export(source, base, "--json", "--version", 8).stdout)["version"] == 8
    assert json.loads(export(source, base, "--json").stdout)["version"] == 9
    (base / "00012").mkdir()
    assert "00012 exists already; a version is never overwritten" in refused(source, base, "--version", 12)
    before = (base / "8" / "saved_model.pb").stat()
    assert "8 exists already" in refused(source, base, "--version", 8)
    assert (base / "8" / "saved_model.pb").stat() == before
    stamped = json.loads(export(source, base, "--json", "--timestamp").stdout)["version"]
    assert stamped > 1_700_000_000
    assert sorted(os.listdir(base)) == sorted(["1", "8", "9", "00012", str(stamped)])
    assert export(source, base, "--timestamp", "--version", 1).exit_code == 2


def test_a_version_is_warmed_by_requests_that_it_answers(model_dir: ModelDir, tmp_path: Path) -> None:
    source = model_dir("half_plus_two_tf2") / "1"
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"instances": [1.0]}\n\n{"inputs": {"x": [2.0, 3.0]}}\n')
    assert export(source, tmp_path / "m", "--warmup", requests).exit_code == 0
    assert len(list(read_samples(str(tmp_path / "m" / "1" / WARMUP), "warmup"))) == 2
    assert export(source, tmp_path / "m", "--warmup", 3).exit_code == 0
    assert len(list(read_samples(str(tmp_path / "m" / "2" / WARMUP), "warmup"))) == 3
    assert export(source, tmp_path / "m", "--warmup", 0).exit_code == 0
    assert not (tmp_path / "m" / "3" / WARMUP).exists()
    requests.write_text('{"instances": ["text"]}\n')
    assert "requests.jsonl, line 1" in refused(source, tmp_path / "m", "--warmup", requests)
    assert not (tmp_path / "m" / "4").exists()


def test_onnx_files_come_with_their_weights(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        initializer=[numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, str(tmp_path / "mine.onnx"), save_as_external_data=True, location="mine.weights", size_threshold=0)
    done = export(tmp_path / "mine.onnx", tmp_path / "m", "--json")
    assert done.exit_code == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "m" / "1")) == ["assets.extra", "mine.weights", "model.onnx"]
    np.testing.assert_allclose(computed(tmp_path / "m" / "1", x=X)["y"], X @ weights)
    (tmp_path / "mine.weights").unlink()
    assert "which belongs to the model" in refused(tmp_path / "mine.onnx", tmp_path / "m")
    assert os.listdir(tmp_path / "m") == ["1"]


def test_tflite_files(tflite_folder: Path, tmp_path: Path) -> None:
    shutil.copy(tflite_folder / "linear" / "1" / "model.tflite", tmp_path / "mine.tflite")
    assert export(tmp_path / "mine.tflite", tmp_path / "m").exit_code == 0
    assert (tmp_path / "m" / "1" / "model.tflite").exists()
    assert "it is copied as it is" in refused(tmp_path / "mine.tflite", tmp_path / "m", "--signature", "a=b")


def test_what_is_refused_leaves_nothing(model_dir: ModelDir, tmp_path: Path) -> None:
    source, base = model_dir("half_plus_two_tf2") / "1", tmp_path / "m"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes((source / "saved_model.pb").read_bytes()[:100])
    (tmp_path / "broken.tflite").write_bytes(b"no model")
    assert "there is no such file or folder" in refused(tmp_path / "nosuch.keras", base)
    assert "cannot export" in refused(tmp_path / "broken", base)
    assert "cannot export" in refused(tmp_path / "broken.tflite", base)
    (tmp_path / "notes.md").write_text("")
    assert "is no model" in refused(tmp_path / "notes.md", base)
    assert "is no signature: expected NAME=METHOD" in refused(source, base, "--signature", "name")
    assert "is no input: expected such as" in refused(source, base, "--input-signature", "x:=3")
    assert not base.exists()
    assert "is itself a model" in refused(source, source)
    assert "Not a directory" in refused(source, tmp_path / "notes.md" / "m")


def test_a_full_disk_leaves_nothing(model_dir: ModelDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(staging.os, "fsync", fsync)
    done = refused(model_dir("half_plus_two_tf2") / "1", tmp_path / "m", "--warmup", 0)
    assert "No space left on device; nothing was exported" in done
    assert not (tmp_path / "m").exists()


def test_where_tensorflow_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = staging.sys.modules["importlib.util"].find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "keras" else found(name, *more))
    (tmp_path / "model.keras").write_bytes(b"")
    assert "pip install 'pyserving[tensorflow]'" in refused(tmp_path / "model.keras", tmp_path / "m")


BLOCKED = """
import glob, os, signal
(folder,) = glob.glob({pattern!r})
os.makedirs(folder + "/model")
open(folder + "/model/saved_model.pb", "wb").write(b"half of it")
fifo = open({fifo!r}, "w")
fifo.write("x")
fifo.flush()
signal.pause()
"""


def aspired(base: Path) -> list[VersionPath]:
    """What a server's source sees at its first look, when it waits for nothing."""
    found: list[VersionPath] = []
    source = FileSystemSource(
        {"m": MonitoredServable(str(base))}, lambda _, versions: found.extend(versions), poll_wait_seconds=0
    )
    source.start()
    source.stop()
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_export_that_is_killed(model_dir: ModelDir, tmp_path: Path, number: signal.Signals) -> None:
    base, fifo = tmp_path / "m", str(tmp_path / "fifo")
    base.mkdir()
    os.mkfifo(fifo)
    (tmp_path / "blocked.py").write_text(BLOCKED.format(pattern=f"{base}/.pyserving-export-*", fifo=fifo))
    command = [sys.executable, "-m", "pyserving.cli.main", "export", str(tmp_path / "blocked.py:model"), str(base)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    blocked = open(fifo)  # noqa: SIM115 - its end is that of the process
    assert blocked.read(1) == "x"
    # It is in the middle: half a version lies there, which no server takes, and no other export removes.
    assert len(os.listdir(base)) == 1
    assert aspired(base) == []
    assert export(model_dir("half_plus_two_tf2") / "1", base, "--warmup", 0).exit_code == 0
    assert len(os.listdir(base)) == 2
    process.send_signal(number)
    process.wait(30)
    assert blocked.read() == "", "its exporting process ends with it"
    blocked.close()
    assert [version.version for version in aspired(base)] == [1]
    if number is signal.SIGTERM:
        assert os.listdir(base) == ["1"]
    assert export(model_dir("half_plus_two_tf2") / "1", base, "--warmup", 0).exit_code == 0
    assert sorted(os.listdir(base)) == ["1", "2"], "what was left behind is gone"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x=float32[?,28,28];n=int64[]", ("", [("x", "float32", (None, 28, 28)), ("n", "int64", ())])),
        ("embed: x = string", ("embed", [("x", "string", None)])),
        ("float32[None, -1]", ("", [("", "float32", (None, None))])),
    ],
)
def test_written_signatures(text: str, read: Any) -> None:
    name, inputs = read_input_signature(text)
    assert (name, [(one.name, one.dtype, one.shape) for one in inputs]) == read


def test_the_page_on_the_command_line(
    exported: tuple[Path, dict[str, Any]], model_dir: ModelDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command that the page shows does what it says, in the order of the page."""
    shutil.copytree(model_dir("half_plus_two") / "00000123", tmp_path / "models" / "half_plus_two" / "1")
    shutil.copy(exported[0] / "dense.keras", tmp_path)
    (tmp_path / "requests.jsonl").write_text('{"instances": [[1.0]], "expected": [[2.5]]}\n')
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) > 10
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "pyserving"
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert done.exit_code == 0, (line, done.stderr)
        assert done.stdout, line
    assert (tmp_path / "models" / "dense" / "1" / "saved_model.pb").exists()
    assert (tmp_path / "models" / "copied" / "7").is_dir()
    assert os.listdir("blessing") == ["INFRA_BLESSED"]
