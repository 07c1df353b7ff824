"""``pyserving show`` and ``pyserving run``: every kind of model, and what cannot be shown or run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from platform_models import BUILDERS, expected

from pyserving.cli.main import main
from pyserving.platforms.tensorflow.checkpoint_index import read_variables

ModelDir = Callable[[str], Path]
X = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]
PYTHON = """
import numpy as np
from pyserving import Model, Tensor

class Double(Model):
    def predict(self, x: Tensor["float32", None]) -> Tensor["float32", None]:
        return 2 * x
"""


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def show(*arguments: object) -> dict[str, Any]:
    done = invoke("show", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*arguments: object) -> str:
    """What is said on standard error; nothing is on standard output."""
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return str(done.stderr)


@pytest.mark.parametrize("name", ["tensorflow", "tflite", "onnx", "openvino"])
def test_models_of_every_platform(name: str, openvino_folder: Path, tflite_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    folder = tmp_path / "m" / "7"
    BUILDERS[name][0](folder, openvino_folder, tflite_folder)
    found = show(tmp_path / "m")
    assert (found["path"], found["platform"]) == (str(folder), name)
    assert found["size_bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    (graph,) = found["graphs"]
    signature = graph["signatures"]["serving_default"]
    assert [(each["dtype"], each["shape"]) for each in signature["inputs"].values()] == [("float32", [-1, 3])]
    assert sum(graph["ops"].values()) > 0
    assert not graph["not_registered"]
    done = invoke("run", folder, "-i", f"x={X}", "--json")
    assert done.exit_code == 0, done.stderr
    (answer,) = json.loads(done.stdout)["outputs"].values()
    np.testing.assert_allclose(answer, expected(name, np.float32(X)), rtol=1e-5)


def test_a_file_alone_is_a_model(tflite_folder: Path, tmp_path: Path) -> None:
    shutil.copy(tflite_folder / "linear" / "1" / "model.tflite", tmp_path / "mine.tflite")
    assert show(tmp_path / "mine.tflite")["path"] == str(tmp_path / "mine.tflite")
    done = invoke("run", tmp_path / "mine.tflite", "-i", f"x={X}", "--json")
    assert done.exit_code == 0, done.stderr


def test_what_a_saved_model_holds(model_dir: ModelDir) -> None:
    found = show(model_dir("flowers"))
    (graph,) = found["graphs"]
    variables = read_variables(str(model_dir("flowers") / "1"))
    assert [(each.shape, each.dtype.text) for each in variables] == [((3,), "string"), ((2, 3), "float")]
    assert found["variables"] == {"count": 2, "elements": 9, "size_bytes": sum(each.size for each in variables)}
    assert found["fingerprint"]["saved_model_checksum"].isdecimal()
    assert graph["producer"].startswith("TensorFlow 2.")
    assert len(graph["functions"]) > 2
    assert show(model_dir("vocabulary"))["graphs"][0]["assets"] != []
    text = invoke("show", model_dir("flowers")).stdout
    assert "variables    2: 9 elements" in text
    assert "\x1b" not in text


def test_large_variables_are_counted_without_reading_them(model_dir: ModelDir) -> None:
    assert show(model_dir("large"))["variables"] == {"count": 1, "elements": 25_000_000, "size_bytes": 100_000_000}


def test_graphs_and_signatures_can_be_chosen(model_dir: ModelDir) -> None:
    folder = model_dir("two_tags")
    assert len(show(folder)["graphs"]) == 2
    assert invoke("show", folder).stdout.count("\ntags ") == 1
    assert invoke("show", folder, "--all").stdout.count("\ntags ") == 2
    assert show(folder, "--tag", "gpu,serve")["graphs"][0]["tags"] == ["gpu", "serve"]
    assert "no graph has exactly the tags gpu: there are gpu,serve; serve" in refused("show", folder, "--tag", "gpu")
    assert "no signature nosuch" in refused("show", folder, "--signature", "nosuch")


def test_custom_operations_are_named(model_dir: ModelDir) -> None:
    folder = model_dir("text_ops").parent / "text_ops"
    # Another process: once a library is loaded, its operations are known.
    done = subprocess.run(
        [sys.executable, "-m", "pyserving.cli.main", "show", folder], capture_output=True, text=True, check=True
    )
    assert "RegexSplitWithOffsets (not registered in the engine)" in done.stdout


def test_code_is_shown_only_where_it_may_run(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(PYTHON)
    assert "--python-models" in refused("show", tmp_path)
    found = show(tmp_path, "--python-models", "process")
    assert found["platform"] == "python"
    done = invoke("run", tmp_path, "-i", "x=[1, 2]", "-o", "json")
    assert json.loads(done.stdout) == {"outputs": {"output_0": [2.0, 4.0]}}


def test_a_table_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("code,price\na,1.5\nb,2.5\n")
    (signature,) = show(tmp_path / "prices.csv")["graphs"][0]["signatures"].values()
    assert signature["inputs"]["code"]["dtype"] == "string"
    assert "2.5" in invoke("run", tmp_path / "prices.csv", "-i", 'code=["b"]').stdout


def test_what_is_no_model(model_dir: ModelDir, tmp_path: Path) -> None:
    assert "there is no" in refused("show", tmp_path / "nosuch")
    assert "found no model in" in refused("show", tmp_path)
    (tmp_path / "notes.md").write_text("x")
    assert "is no model: expected a folder, or a file that ends in" in refused("show", tmp_path / "notes.md")
    whole = (model_dir("flowers") / "1" / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
    for command in (("show",), ("run", "-i", "x=1")):
        assert str(tmp_path) in refused(command[0], tmp_path, *command[1:])
    assert "holds" in refused("show", model_dir("flowers").parent)


def test_wrong_inputs(model_dir: ModelDir) -> None:
    folder = model_dir("half_plus_two_tf2")
    assert "has no input y: there are x" in refused("run", folder, "-i", "y=[1.0]")
    assert "expected values of type float" in refused("run", folder, "-i", 'x="text"')
    assert "no signature nosuch: there are" in refused("run", folder, "--signature", "nosuch", "-i", "x=[1.0]")
    assert "input size does not match signature: 0!=1" in refused("run", folder)
    assert refused("run", model_dir("dims"), "-i", "x=[1.0]")
    assert "there is no file" in refused("run", folder, "-i", "x=nosuch.npy")
    assert "neither JSON" in refused("run", folder, "-i", "x=__import__('os').getcwd()")
    assert invoke("run").exit_code == 2
    assert invoke("run", folder, "-i", "x=[1.0]", "--timeout", "1e300").exit_code == 2


def test_outputs_go_to_files_and_pipes(model_dir: ModelDir, tmp_path: Path) -> None:
    arguments = ["run", model_dir("dims"), "-i", "x=np.ones((2, 2, 3))", "--outdir", tmp_path]
    assert invoke(*arguments).exit_code == 0
    assert np.load(tmp_path / "total.npy").tolist() == [6.0, 6.0]
    assert "exists already; --overwrite" in refused(*arguments)
    assert invoke(*arguments, "--overwrite").exit_code == 0
    done = invoke("run", model_dir("dims"), "-i", "x=np.ones((2, 2, 3))", "--output-name", "total", "-o", "npy")
    (tmp_path / "piped.npy").write_bytes(done.stdout_bytes)
    assert np.load(tmp_path / "piped.npy").tolist() == [6.0, 6.0]


def test_runs_are_timed(model_dir: ModelDir) -> None:
    done = invoke("run", model_dir("half_plus_two_tf2"), "-i", "x=[1]", "--warmup", "1", "--repeat", "5")
    assert "5 runs: median" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    assert "_PYSERVING_COMPLETE" in invoke("completion", shell).stdout


def test_commands_and_signatures_are_completed(model_dir: ModelDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("_PYSERVING_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(("pyserving", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return str(CliRunner().invoke(main, [], prog_name="pyserving").stdout).split()

    assert "plain,show" in complete("sh")
    assert complete("show", str(model_dir("strings")), "--signature", "j") == ["plain,join"]
