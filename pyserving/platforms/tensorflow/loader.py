"""Loads and unloads one version of a TensorFlow model."""

import os

from pyserving.core.errors import Code, ServingError
from pyserving.core.resources import Resources
from pyserving.core.servable import ServableId
from pyserving.platforms.memory import give_memory_back
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions

_RAM_PER_FILE_BYTE = 1.2
"""What TensorFlow Serving reckons with: the size of all files of the version, and a fifth more."""


class TensorFlowLoader:
    """A ``Loader`` of the SavedModel in the folder ``path``."""

    def __init__(self, id: ServableId, path: str, options: SessionOptions) -> None:  # noqa: A002
        self.id = id
        self.path = path
        self._options = options
        self._model: TensorFlowModel | None = None

    def estimate_resources(self) -> Resources:
        """Raises NOT_FOUND where there is no such folder."""
        try:
            return Resources(ram_bytes=int(_size_of_files(self.path) * _RAM_PER_FILE_BYTE))
        except OSError as error:
            raise ServingError(Code.NOT_FOUND, f"{self.path} cannot be read: {error.strerror}") from None

    def load(self) -> TensorFlowModel:
        self._model = TensorFlowModel(self.path, self._options)
        return self._model

    def unload(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None
            give_memory_back()


def _size_of_files(folder: str) -> int:
    def fail(error: OSError) -> None:
        raise error

    return sum(
        os.path.getsize(os.path.join(parent, name))
        for parent, _, names in os.walk(folder, onerror=fail, followlinks=True)
        for name in names
    )
