"""The folder with the exported models; what is missing is built on first use (models.py)."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.running import ROOT

MODELS = ROOT / ".cache" / "benchmarks" / "models"


def base_path(name: str) -> Path:
    """The folder with version 1 of a model. Raises RuntimeError where it cannot be built."""
    build([name])
    return MODELS / name


def build(names: Iterable[str]) -> None:
    """Builds those that are not there. Raises RuntimeError, with the end of what TensorFlow said, where that fails."""
    missing = [name for name in names if not (MODELS / name).exists()]
    if not missing:
        return
    command = [sys.executable, "-m", "benchmarks.models", str(MODELS), *missing]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if built.returncode:
        raise RuntimeError(f"the models could not be built:\n{built.stderr[-3000:]}")
