"""Loads and unloads one version of a TensorFlow Lite model."""

import os

from pyserving.core.resources import Resources
from pyserving.core.servable import ServableId
from pyserving.platforms.freed_memory import give_memory_back
from pyserving.platforms.tflite.model import TFLiteModel
from pyserving.platforms.tflite.model_file import FILE_NAME
from pyserving.platforms.tflite.options import TFLiteOptions
from pyserving.sources.os_errors import serving_error

_RAM_PER_INTERPRETER = 1.5
"""Of the file's size: packed weights and activations. Measured with MobileNetV2: 14 MB file, 21 MB each."""


class TFLiteLoader:
    """A ``Loader`` of the file ``model.tflite`` in the folder ``path``."""

    def __init__(self, id: ServableId, path: str, options: TFLiteOptions) -> None:  # noqa: A002
        self.id = id
        self.path = path
        self._options = options
        self._model: TFLiteModel | None = None

    def estimate_resources(self) -> Resources:
        """As if all interpreters were in use. Raises NOT_FOUND where there is no such file."""
        file = os.path.join(self.path, FILE_NAME)
        try:
            size = os.path.getsize(file)
        except OSError as error:
            raise serving_error(file, error) from None
        return Resources(ram_bytes=int(size * (1 + _RAM_PER_INTERPRETER * self._options.num_interpreters)))

    def load(self) -> TFLiteModel:
        self._model = TFLiteModel(self.path, self._options)
        return self._model

    def unload(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None
            give_memory_back()
