"""``pyserving show`` and ``run`` say what TensorFlow's saved_model_cli says of the same models."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pyserving.cli.main import main

ModelDir = Callable[[str], Path]

SHOWN = ["half_plus_two", "flowers", "vocabulary", "with_defaults", "dims", "unknown_rank", "dtypes", "two_tags"]
RUNS = [
    ("half_plus_two", "serving_default", "", "x=[[1.0],[2.5]]", ""),
    ("half_plus_two", "regress_x_to_y", "", "", 'inputs=[{"x":[1.0]},{"x":[4.5]}]'),
    ("dims", "two", "", "a=[[1.0,1.5],[2.0,3.0]];b=[[0.0,1.0],[2.0,3.0]]", ""),
    ("dims", "two", "a={folder}/a.npy;b={folder}/b.npz[second]", "", ""),
    ("strings", "join", "", "pair=[['a','b'],['c','d']]", ""),
    ("flowers", "regress", "", "", 'inputs=[{"name":["rose"],"count":[2],"size":[1.0,2.0]}]'),
]
"""Model, signature, and inputs in the three ways that saved_model_cli has: files, expressions, examples."""

_TENSOR = re.compile(
    r"  (inputs|outputs)\['(?P<name>[^']*)'\] tensor_info:\s+dtype: (?P<dtype>\w+)\s+shape: (?P<shape>.*)"
    r"\s+name: (?P<tensor>.*)"
)
_NAMES = {
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "float16": "DT_HALF",
}


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def answers(model_dir: ModelDir, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What the tool prints of ``SHOWN``, by name; of ``RUNS`` the arrays that it writes, by position."""
    folder = tmp_path_factory.mktemp("tool")
    np.save(folder / "a.npy", np.float32([[1, 2]]))
    np.savez(folder / "b.npz", first=np.float32([[0, 0]]), second=np.float32([[10, 20]]))
    jobs: list[list[str]] = [["show", str(version(model_dir, name))] for name in SHOWN]
    for position, (name, signature, *inputs) in enumerate(RUNS):
        given = [text.format(folder=folder) if text.startswith("a={") else text for text in inputs]
        jobs.append(["run", str(version(model_dir, name)), signature, *given, str(folder / str(position))])
    script = Path(__file__).parent / "saved_model_cli_answers.py"
    done = subprocess.run([sys.executable, script], input=json.dumps(jobs), capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    texts = json.loads(done.stdout)
    found: dict[Any, Any] = {job[1]: text for job, text in zip(jobs, texts, strict=True) if job[0] == "show"}
    for position in range(len(RUNS)):
        found[position] = {path.stem: np.load(path, allow_pickle=True) for path in (folder / str(position)).iterdir()}
    found["folder"] = folder
    return found


def version(model_dir: ModelDir, name: str) -> Path:
    return max(model_dir(name).iterdir())


def dtype_of(shown: str) -> str:
    return _NAMES.get(shown, f"DT_{shown.upper()}")


@pytest.mark.parametrize("name", SHOWN)
def test_show_has_the_same_tags_signatures_dtypes_and_shapes(
    model_dir: ModelDir, answers: dict[Any, Any], name: str
) -> None:
    folder = str(version(model_dir, name))
    shown = json.loads(invoke("show", folder, "--json").stdout)
    theirs = {}
    for tags, text in re.findall(
        r"MetaGraphDef with tag-set: '(.*?)' contains(.*?)(?=\nMetaGraphDef|\Z)", answers[folder], re.S
    ):
        signatures = {}
        for key, body in re.findall(r"signature_def\['(.*?)'\]:\n(.*?)Method name is: ?(?=.*)", text, re.S):
            signatures[key] = {
                (match[1], match["name"]): (match["dtype"], match["shape"].strip(), match["tensor"].strip())
                for match in _TENSOR.finditer(body)
            }
        ops = re.search(r"contains the following ops: (\{.*\}|set\(\))", text)
        assert ops is not None
        theirs[frozenset(tags.split(", "))] = (signatures, ast.literal_eval(ops[1]))
    ours = {}
    for graph in shown["graphs"]:
        signatures = {}
        for key, signature in graph["signatures"].items():
            signatures[key] = {
                (kind, alias): (
                    dtype_of(tensor["dtype"]),
                    "unknown_rank" if tensor["shape"] is None else f"({', '.join(map(str, tensor['shape']))})",
                    tensor["tensor_name"],
                )
                for kind in ("inputs", "outputs")
                for alias, tensor in signature[kind].items()
            }
        ours[frozenset(graph["tags"])] = (signatures, set(graph["ops"]))
    assert ours.keys() == theirs.keys()
    for tags, found in theirs.items():
        assert ours[tags] == found


@pytest.mark.parametrize("position", range(len(RUNS)))
def test_run_computes_the_same(model_dir: ModelDir, answers: dict[Any, Any], position: int, tmp_path: Path) -> None:
    name, signature, files, expressions, examples = RUNS[position]
    arguments = ["run", str(version(model_dir, name)), "--signature", signature, "--outdir", str(tmp_path / "out")]
    for text in (files.format(folder=answers["folder"]), expressions):
        for one in filter(None, text.split(";")):
            arguments += ["--inputs", one]
    if examples:
        arguments += ["--input-examples", examples]
    done = invoke(*arguments)
    assert done.exit_code == 0, done.stderr
    theirs = answers[position]
    ours = {path.stem: np.load(path) for path in (tmp_path / "out").iterdir()}
    assert ours.keys() == theirs.keys()
    assert theirs
    for output, array in theirs.items():
        if array.dtype == object:
            array = array.astype(np.bytes_)
        assert ours[output].dtype == array.dtype
        np.testing.assert_array_equal(ours[output], array)
