"""What tests of several rooms use: SavedModels and .tflite files, built once by real TensorFlow."""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

ModelDir = Callable[[str], Path]

# How long an example takes says nothing on a machine that is busy.
settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Servers that tests start compile for themselves, and leave nothing in the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def log_not_set_up() -> None:
    """A command that an earlier test ran in this process set up the log; ``caplog`` is to see each line, and once."""
    root = logging.getLogger("pyserving")
    root.handlers.clear()
    root.setLevel(logging.NOTSET)
    root.propagate = True


@pytest.fixture(scope="session")
def models_folder(pytestconfig: pytest.Config) -> Path:
    """The folder with all models of models.py, one folder of versions each. Not to be written to."""
    return _built_by("models.py", pytestconfig)


@pytest.fixture(scope="session")
def model_dir(models_folder: Path) -> ModelDir:
    """``model_dir("half_plus_two_tf2")``: the folder with that model's versions."""

    def find(name: str) -> Path:
        assert (models_folder / name).is_dir(), f"models.py builds no {name}"
        return models_folder / name

    return find


@pytest.fixture(scope="session")
def row_models_folder(pytestconfig: pytest.Config) -> Path:
    """The folder with all models of row_models.py. Not to be written to."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("needs Keras")
    return _built_by("row_models.py", pytestconfig)


@pytest.fixture(scope="session")
def optimize_models_folder(pytestconfig: pytest.Config) -> Path:
    """The folder with the model of optimize_models.py. Not to be written to."""
    return _built_by("optimize_models.py", pytestconfig)


@pytest.fixture(scope="session")
def tflite_folder(pytestconfig: pytest.Config) -> Path:
    """The folder with all models of tflite_models.py. Not to be written to."""
    pytest.importorskip("ai_edge_litert")
    return _built_by("tflite_models.py", pytestconfig)


@pytest.fixture(scope="session")
def openvino_folder(pytestconfig: pytest.Config) -> Path:
    """The folder with all models of openvino_models.py. Not to be written to."""
    pytest.importorskip("openvino")
    return _built_by("openvino_models.py", pytestconfig)


@pytest.fixture(scope="session")
def acceleration_folder(pytestconfig: pytest.Config) -> Path:
    """The folder with all models of acceleration_models.py. Not to be written to."""
    pytest.importorskip("openvino")
    if importlib.util.find_spec("keras") is None:
        pytest.skip("needs Keras")
    return _built_by("acceleration_models.py", pytestconfig)


@pytest.fixture(scope="session")
def built_examples(pytestconfig: pytest.Config) -> Path:
    """A copy of examples/ where each example has exported its models. Not to be written to."""
    for needed in ("jieba", "keras", "mlxtend"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}")
    sources = sorted(path for path in Path(__file__).parents[1].glob("examples/**/*") if path.suffix in (".py", ".md"))
    return _built_by("built_examples.py", pytestconfig, sources)


def _built_by(script: str, pytestconfig: pytest.Config, sources: Sequence[Path] = ()) -> Path:
    """The folder that a script in this folder builds, kept in pytest's cache until the script or TensorFlow changes.

    ``sources`` are files that the script reads: a change of one counts, too.

    It is built in a process of its own, so that no test imports TensorFlow.
    """
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow")
    builder = Path(__file__).parent / script
    versions = sorted(
        f"{found.name} {found.version}"
        for found in importlib.metadata.distributions()
        if found.name.replace("_", "-") in ("tensorflow", "tensorflow-cpu", "tensorflow-text")
    )
    key = hashlib.sha256(
        b"".join(path.read_bytes() for path in (builder, *sources)) + repr(versions).encode()
    ).hexdigest()[:16]
    cache: pytest.Cache = pytestconfig.cache  # type: ignore[assignment]
    parent = cache.mkdir(builder.stem)
    folder = parent / key
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=parent) as scratch:
            fresh = Path(scratch, "models")
            built = subprocess.run([sys.executable, builder, fresh], capture_output=True, text=True, check=False)
            if built.returncode:
                pytest.fail(f"{script} could not build its models:\n{built.stderr}")
            try:
                fresh.rename(folder)
            except OSError:  # another test process was quicker
                if not folder.exists():
                    raise
    return folder
