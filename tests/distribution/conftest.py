"""The sdist and the wheel, and environments that have what they say they need and nothing else. No network is used."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

NewVenv = Callable[[Path, Sequence[str]], Path]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    for module in ("build", "hatchling"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def new_venv() -> NewVenv:
    """``new_venv(folder, extras)``: makes a virtual environment with PyServing's dependencies, without itself.

    They are links to those of the environment that the tests run in. Returns the folder for further packages.
    """

    def make(folder: Path, extras: Sequence[str]) -> Path:
        if not (folder / "bin").exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (site_packages,) = folder.glob("lib/python*/site-packages")
        for name in sorted(_needed_by(extras)):
            found = importlib.metadata.distribution(name)
            for part in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                link = site_packages / part
                if not link.exists():
                    link.symlink_to(Path(str(found.locate_file(part))).resolve())
        return site_packages

    return make


def _needed_by(extras: Sequence[str]) -> set[str]:
    """The distributions that PyServing asks for with ``extras``, and those that these ask for, by canonical name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [*project["dependencies"], *(text for one in extras for text in project["optional-dependencies"][one])]
    needed: set[str] = set()
    while waiting:
        one = Requirement(waiting.pop())
        name = canonicalize_name(one.name)
        if one.marker is None or one.marker.evaluate():
            for text in () if name in needed else importlib.metadata.requires(name) or ():
                further = Requirement(text)
                if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in (*one.extras, "")):
                    further.marker = None
                    waiting.append(str(further))
            needed.add(name)
    return needed
