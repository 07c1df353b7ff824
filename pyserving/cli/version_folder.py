"""What PATH means to commands that work on one version: its folder, its model's folder, or a model file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.registry import Platforms
from pyserving.platforms.tensorflow.saved_model import is_saved_model
from pyserving.sources.os_errors import serving_error
from pyserving.sources.version_folders import list_versions, parse_version

_FILE_NAMES = {
    ".tflite": "model.tflite",
    ".onnx": "model.onnx",
    ".xml": "model.xml",
    ".py": "model.py",
    ".csv": "table.csv",
    ".tsv": "table.tsv",
    ".parquet": "table.parquet",
    ".txt": "table.txt",
}
"""What a file is called in a version folder, by how its name ends."""
_WEIGHTS = {".xml": (".bin", "model.bin")}


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """One version of a model."""

    given: str
    """As PATH named it, absolute."""
    path: str
    """The folder that holds the model's files."""
    name: str
    """The model's."""
    version: int
    """1 where its folder's name is no number."""


@contextmanager
def find_version(given: str) -> Iterator[VersionFolder]:
    """The version that ``given`` means: a version folder itself, the latest in a model's folder, or a single file.

    Raises ServingError: NOT_FOUND where there is nothing, INVALID_ARGUMENT where it is no version.
    """
    path = os.path.abspath(given)
    try:
        if os.path.isdir(path):
            yield _in_folder(path)
        elif os.path.exists(path):
            with _of_file(path) as folder:
                yield folder
        else:
            raise ServingError(Code.NOT_FOUND, f"there is no {path}")
    except PermissionError as error:
        raise serving_error(path, error) from None


def files_of_version(path: str) -> dict[str, str]:
    """What a version folder would hold of the model file ``path``: paths by the names they have there.

    Raises INVALID_ARGUMENT for a file that is no model.
    """
    stem, ending = os.path.splitext(path)
    if ending not in _FILE_NAMES:
        expected = ", ".join(_FILE_NAMES)
        raise ServingError(
            Code.INVALID_ARGUMENT, f"{path} is no model: expected a folder, or a file that ends in one of {expected}"
        )
    files = {_FILE_NAMES[ending]: path}
    if ending in _WEIGHTS:
        weights, name = _WEIGHTS[ending]
        files[name] = stem + weights
    return files


def is_version(folder: str) -> bool:
    """Whether the folder itself holds a model."""
    return is_saved_model(folder) or Platforms(PlatformContext()).platform_of(folder) is not None


def _in_folder(path: str) -> VersionFolder:
    if is_version(path):
        number = parse_version(os.path.basename(path))
        name = os.path.basename(path if number is None else os.path.dirname(path))
        return VersionFolder(path, path, name or "model", 1 if number is None else number)
    versions = list_versions(path)[0]
    if versions:
        latest = versions[max(versions)]
        return VersionFolder(path, latest.path, os.path.basename(path) or "model", latest.version)
    children = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    models = [child for child in children if list_versions(os.path.join(path, child))[0]]
    if models:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"{path} holds {len(models)} models; expected one of them: {', '.join(models)}"
        )
    raise ServingError(
        Code.NOT_FOUND,
        f"found no model in {path}: expected saved_model.pb, {', '.join(_FILE_NAMES.values())}, or version folders "
        f"named by a number (such as {path}/1/)",
    )


@contextmanager
def _of_file(path: str) -> Iterator[VersionFolder]:
    parent, name = os.path.split(path)
    if os.path.splitext(name)[0] in ("saved_model", "model", "table") and is_version(parent):
        folder = _in_folder(parent)
        yield VersionFolder(path, parent, folder.name, folder.version)
        return
    files = files_of_version(path)
    with tempfile.TemporaryDirectory(prefix="pyserving-") as scratch:
        # Links, so that what ONNX files keep beside them is found through the folder that they lie in.
        for linked, target in files.items():
            os.symlink(target, os.path.join(scratch, linked))
        yield VersionFolder(path, scratch, os.path.splitext(name)[0] or "model", 1)
