"""SavedModels, run by TensorFlow."""

from pyserving.core.servable import ServableId
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.tensorflow.library import is_installed
from pyserving.platforms.tensorflow.loader import TensorFlowLoader
from pyserving.platforms.tensorflow.saved_model import is_saved_model


class TensorFlowPlatform:
    """A ``Platform``."""

    def __init__(self, context: PlatformContext) -> None:
        self._options = context.session_options

    def recognises(self, folder: str) -> bool:
        """Where TensorFlow is missing, a SavedModel is left to a platform that has its engine."""
        return is_saved_model(folder) and is_installed()

    def loader(self, servable: ServableId, folder: str) -> TensorFlowLoader:
        return TensorFlowLoader(servable, folder, self._options)
