"""Nothing in the package reads what could run code: pickle and its like, or arrays that hold pickles."""

import ast
from pathlib import Path

import pyserving

PACKAGE = Path(pyserving.__file__).parent
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BETWEEN_OUR_OWN_PROCESSES = {Path("server/channel.py"): {"pickle"}}
"""A supervisor and the workers that were forked from it, on a socket pair."""


def imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found & MODULES


def loads_of_arrays(tree: ast.Module) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if ast.unparse(call.func) in ("np.load", "numpy.load")]


def test_no_pickle_anywhere() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    for path in files:
        tree = ast.parse(path.read_bytes())
        allowed = BETWEEN_OUR_OWN_PROCESSES.get(path.relative_to(PACKAGE), set())
        assert imports(tree) == allowed, path
        for call in loads_of_arrays(tree):
            assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in call.keywords), path
        assert not any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in keywords(tree)), path


def keywords(tree: ast.Module) -> list[ast.keyword]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.keyword)]
