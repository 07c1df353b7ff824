"""Version folders with a file ``model.py``."""

import os

from pyserving.core.errors import Code, ServingError
from pyserving.core.loader import Loader
from pyserving.core.servable import ServableId
from pyserving.platforms.folder_loader import FolderLoader
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.python.loader import load_python_model
from pyserving.platforms.python.model import PythonModel
from pyserving.platforms.python.options import PythonModels
from pyserving.platforms.python.source_file import FILE_NAME


class PythonPlatform:
    """A ``Platform``."""

    def __init__(self, context: PlatformContext) -> None:
        self._context = context

    def recognises(self, folder: str) -> bool:
        return os.path.isfile(os.path.join(folder, FILE_NAME))

    def loader(self, servable: ServableId, folder: str) -> Loader:
        """Raises FAILED_PRECONDITION where the operator did not allow code of models."""
        models = self._context.python_options.models
        if models is PythonModels.OFF:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"{os.path.join(folder, FILE_NAME)} is code, which this server does not run unless it is started with "
                "--python-models=on (pyserving serve) or --python_models=on (tensorflow_model_server)",
            )

        def open_model(path: str) -> PythonModel:
            return load_python_model(servable, path, self._context.open_session)

        return FolderLoader(folder, open_model)
