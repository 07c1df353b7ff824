"""Models that are files already: copied, with what lies beside them, under the names that version folders have."""

import os
import shutil
from collections.abc import Mapping

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.exporting.staging import writing_error
from pyserving.platforms.onnx.external_data import external_files


def copy_folder(source: str, folder: str) -> None:
    """Copies a version folder; what links lead to is copied, too. Raises ServingError."""
    try:
        shutil.copytree(source, folder)
    except shutil.Error as error:
        _, path, reason = error.args[0][0]
        raise ServingError(Code.UNKNOWN, f"{path}: {reason}") from None
    except OSError as error:
        raise writing_error(folder, error) from None


def copy_files(files: Mapping[str, str], folder: str) -> None:
    """Copies files, by the names that they get in ``folder``, and the weights that an ONNX file keeps beside it.

    Raises ServingError.
    """
    wanted = dict(files)
    for name, path in files.items():
        if name.endswith(".onnx"):
            for other in external_files(path):
                if os.path.isabs(other) or ".." in other.split("/"):
                    raise invalid_argument(f"{path} keeps weights at {other}, which is not beside it")
                wanted[other] = os.path.join(os.path.dirname(path), other)
    try:
        os.makedirs(folder)
        for name, path in wanted.items():
            if not os.path.isfile(path):
                raise ServingError(Code.NOT_FOUND, f"there is no {path}, which belongs to the model")
            target = os.path.join(folder, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(path, target)
    except OSError as error:
        raise writing_error(folder, error) from None
