"""OpenVINO's own files; and SavedModels, where TensorFlow is not installed."""

import os

from pyserving.core.servable import ServableId
from pyserving.platforms.folder_loader import FolderLoader
from pyserving.platforms.openvino.ir import FILE_NAME
from pyserving.platforms.openvino.model import OpenVinoModel
from pyserving.platforms.openvino.runtime import is_installed
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.tensorflow.saved_model import SAVED_MODEL_FILE


class OpenVinoPlatform:
    """A ``Platform``."""

    def __init__(self, context: PlatformContext) -> None:
        self._num_threads = context.num_threads
        self._tags = context.session_options.tags

    def recognises(self, folder: str) -> bool:
        """SavedModels too: those that TensorFlow, which is asked before, does not take because it is not there."""
        if os.path.isfile(os.path.join(folder, FILE_NAME)):
            return True
        return is_installed() and os.path.isfile(os.path.join(folder, SAVED_MODEL_FILE))

    def loader(self, servable: ServableId, folder: str) -> FolderLoader[OpenVinoModel]:  # noqa: ARG002
        return FolderLoader(folder, lambda path: OpenVinoModel(path, self._tags, self._num_threads))
