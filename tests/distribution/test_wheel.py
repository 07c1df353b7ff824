"""The wheel and the sdist: what is in them, and that the wheel works where only its dependencies are installed."""

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import pyserving

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, new_venv, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    """A virtual environment with the wheel and what it asks for, without any extra."""
    folder: Path = tmp_path_factory.mktemp("venv")
    new_venv(folder, [])
    install = ["-m", "pip", "--python", folder / "bin/python", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, *install], check=True)
    return folder


def run(environment: Path, *command: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [environment / "bin" / command[0], *command[1:]]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=clean, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of_package() -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "pyserving").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_all_files_of_the_package_are_in_the_wheel_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_of_package()
    assert {"pyserving/console/index.html", "pyserving/protos/descriptors.binpb", "pyserving/py.typed"} <= names


def test_the_sdist_has_what_its_own_tests_and_image_need(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert files_of_package() <= names
    assert {"LICENSE", "README.md", "Makefile", "Dockerfile", "tests/conftest.py", "docs/architecture.md"} <= names
    assert not [name for name in names if name.startswith((".venv", "demo-models", ".git/"))]


def test_the_metadata_are_what_an_index_takes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Metadata.from_email(archive.read(name), validate=True)
    assert (metadata.name, str(metadata.version)) == ("pyserving", pyserving.__version__)
    assert metadata.summary
    assert metadata.description
    assert metadata.description_content_type == "text/markdown"
    assert metadata.license_expression == "Apache-2.0"
    assert "tensorflow" in (metadata.provides_extra or [])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["pyserving", "--version"], pyserving.__version__),
        (["pyserving", "serve", "--help"], "--rest-port"),
        (["tensorflow_model_server", "--version"], "PyServing"),
        (["python", "-c", "from pyserving import Client; print(Client.__name__)"], "Client"),
    ],
)
def test_commands(environment: Path, command: Sequence[str], said: str) -> None:
    assert said in run(environment, *command)


def test_tensorflow_is_not_there(environment: Path) -> None:
    """Else the environment would prove nothing."""
    find = "import importlib.util; print(importlib.util.find_spec('tensorflow'))"
    assert run(environment, "python", "-c", find) == "None\n"
