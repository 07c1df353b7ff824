"""Version folders with a file ``model.py``."""

import os

from pyserving.core.errors import Code, ServingError
from pyserving.core.loader import Loader
from pyserving.core.servable import ServableId
from pyserving.platforms.folder_loader import FolderLoader
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.process.model import ProcessModel
from pyserving.platforms.process.spec import ProcessSpec
from pyserving.platforms.python.loader import load_python_model
from pyserving.platforms.python.model import PythonModel
from pyserving.platforms.python.options import PythonModels
from pyserving.platforms.python.source_file import FILE_NAME, read_constants

NAME = "python"


class PythonPlatform:
    """A ``Platform``."""

    def __init__(self, context: PlatformContext) -> None:
        self._context = context

    def recognises(self, folder: str) -> bool:
        return os.path.isfile(os.path.join(folder, FILE_NAME))

    def loader(self, servable: ServableId, folder: str) -> Loader:
        """Raises FAILED_PRECONDITION where the operator did not allow code of models."""
        context = self._context
        models = context.python_options.models
        if models is PythonModels.OFF:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"{os.path.join(folder, FILE_NAME)} is code, which this server does not run unless it is started with "
                "--python-models=on (pyserving serve) or --python_models=on (tensorflow_model_server)",
            )

        def open_model(path: str) -> PythonModel | ProcessModel:
            constants = read_constants(path)
            isolated = models is PythonModels.PROCESS or constants.isolation == "process"
            if context.isolated or not isolated:
                return load_python_model(servable, path, context.open_session)
            limits = constants.load_time_limit, constants.memory_limit
            return ProcessModel(ProcessSpec(servable, NAME, path, context, *limits))

        return FolderLoader(folder, open_model)
