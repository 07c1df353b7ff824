"""Loads and unloads one version of a TensorFlow Lite model."""

import os

from pyserving.core.resources import Resources
from pyserving.core.servable import ServableId
from pyserving.platforms.folder_loader import FolderLoader
from pyserving.platforms.tflite.model import TFLiteModel
from pyserving.platforms.tflite.model_file import FILE_NAME
from pyserving.platforms.tflite.options import TFLiteOptions
from pyserving.sources.os_errors import serving_error

_RAM_PER_INTERPRETER = 1.5
"""Of the file's size: packed weights and activations. Measured with MobileNetV2: 14 MB file, 21 MB each."""


class TFLiteLoader(FolderLoader[TFLiteModel]):
    """A ``Loader`` of the file ``model.tflite`` in the folder ``path``."""

    def __init__(self, id: ServableId, path: str, options: TFLiteOptions) -> None:  # noqa: A002
        super().__init__(path, lambda folder: TFLiteModel(folder, options))
        self.id = id
        self._num_interpreters = options.num_interpreters

    def estimate_resources(self) -> Resources:
        """As if all interpreters were in use. Raises NOT_FOUND where there is no such file."""
        file = os.path.join(self.path, FILE_NAME)
        try:
            size = os.path.getsize(file)
        except OSError as error:
            raise serving_error(file, error) from None
        return Resources(ram_bytes=int(size * (1 + _RAM_PER_INTERPRETER * self._num_interpreters)))
