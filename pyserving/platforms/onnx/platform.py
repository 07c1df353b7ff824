"""Files of ONNX, run by ONNX Runtime."""

import os

from pyserving.core.servable import ServableId
from pyserving.platforms.folder_loader import FolderLoader
from pyserving.platforms.onnx.model import FILE_NAME, OnnxModel
from pyserving.platforms.platform import PlatformContext

_RAM_PER_FILE_BYTE = 3.0
"""The weights as read, as packed for the CPU, and what is computed. Measured: a 135 MB file of convolutions, 410 MB."""


class OnnxPlatform:
    """A ``Platform``."""

    def __init__(self, context: PlatformContext) -> None:
        self._num_threads = context.num_threads

    def recognises(self, folder: str) -> bool:
        return os.path.isfile(os.path.join(folder, FILE_NAME))

    def loader(self, servable: ServableId, folder: str) -> FolderLoader[OnnxModel]:  # noqa: ARG002
        return FolderLoader(
            folder, lambda path: OnnxModel(path, self._num_threads), ram_per_file_byte=_RAM_PER_FILE_BYTE
        )
