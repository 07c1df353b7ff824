"""Loads and unloads one version of a TensorFlow model."""

from pyserving.core.servable import ServableId
from pyserving.platforms.folder_loader import FolderLoader
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions


class TensorFlowLoader(FolderLoader[TensorFlowModel]):
    """A ``Loader`` of the SavedModel in the folder ``path``."""

    def __init__(self, id: ServableId, path: str, options: SessionOptions) -> None:  # noqa: A002
        super().__init__(path, lambda folder: TensorFlowModel(folder, options))
        self.id = id
