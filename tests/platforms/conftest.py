import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest
from tensorflow_models import CallableModel, Load, ModelDir, RunPython


@pytest.fixture(scope="session")
def load(model_dir: ModelDir) -> Iterator[Load]:
    """``load("dtypes")``: that model, loaded once for all tests: only for what does not change it."""
    loaded: list[CallableModel] = []

    @cache
    def load_once(name: str) -> CallableModel:
        loaded.append(CallableModel(model_dir(name)))
        return loaded[-1]

    yield load_once
    for model in loaded:
        model.close()


@pytest.fixture
def load_own(model_dir: ModelDir) -> Iterator[Load]:
    """As ``load``, but for this test alone."""
    loaded: list[CallableModel] = []

    def load_one(name: str) -> CallableModel:
        loaded.append(CallableModel(model_dir(name)))
        return loaded[-1]

    yield load_one
    for model in loaded:
        model.close()


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """``run_python(code, *arguments)`` in a process of its own: what it printed. Fails where the code does."""

    def run(code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr}"
        return done.stdout

    return run
