"""Processes of ours import what their server does, and nothing that happens to lie in the working directory."""

import subprocess
import sys
from pathlib import Path

import pytest

import pyserving
from pyserving.core.interpreter import command, environment

PACKAGE = Path(pyserving.__file__).parent
TRAP = 'open("taken", "w").close()'


def test_modules_in_the_working_directory_are_not_taken_for_those_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("json", "signal", "numpy"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    code = "import json, signal, numpy, pyserving; print(pyserving.__file__)"
    done = subprocess.run(command("-c", code), env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == pyserving.__file__
    assert not (tmp_path / "taken").exists()


def test_what_this_process_imports_from_the_working_directory_the_other_does_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('found')")
    code = """
import subprocess, sys
assert sys.path[0] == ""
from pyserving.core.interpreter import command, environment
subprocess.run(command("-c", "import mine"), env=environment(), check=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "found\n"), done.stderr


def test_what_python_passes_over_in_its_path_hinders_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [tmp_path, *sys.path])
    done = subprocess.run(command("-c", "import pyserving"), env=environment(), check=False)
    assert done.returncode == 0


def test_no_other_module_of_a_server_starts_python() -> None:
    # What exports runs for its user alone, whose classes Keras may have to import.
    starting = {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if "sys.executable" in path.read_text()
    }
    assert starting == {"core/interpreter.py", "exporting/worker_process.py"}
