"""What kustomize makes of deploy/kubernetes and deploy/kserve."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OVERLAYS = ("volume", "s3", "production")
Manifest = dict[str, Any]


def overlay(name: str) -> list[Manifest]:
    """The objects of one of ``OVERLAYS``."""
    return rendered(DEPLOY / "kubernetes/overlays" / name)


def only(objects: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one object of that kind, of that name if one is given."""
    (found,) = (one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"]))
    return found


@cache
def _kustomize() -> tuple[str, ...] | None:
    """The command, if there is one that knows components (5.0, or kubectl with that within)."""
    if kustomize := shutil.which("kustomize"):
        return (kustomize, "build")
    if kubectl := shutil.which("kubectl"):
        said = subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True, check=False).stdout
        if re.search(r"Kustomize Version: v[5-9]", said):
            return (kubectl, "kustomize")
    return None


@cache
def _text(folder: Path) -> str:
    command = _kustomize()
    if command is None:
        pytest.skip("needs kustomize 5, or a kubectl that has it")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def rendered(folder: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(_text(folder)))
