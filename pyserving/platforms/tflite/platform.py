"""Files of TensorFlow Lite, run by LiteRT."""

import os

from pyserving.core.servable import ServableId
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.tflite.loader import TFLiteLoader
from pyserving.platforms.tflite.model_file import FILE_NAME


class TFLitePlatform:
    """A ``Platform``."""

    def __init__(self, context: PlatformContext) -> None:
        self._options = context.tflite_options

    def recognises(self, folder: str) -> bool:
        return os.path.isfile(os.path.join(folder, FILE_NAME))

    def loader(self, servable: ServableId, folder: str) -> TFLiteLoader:
        return TFLiteLoader(servable, folder, self._options)
