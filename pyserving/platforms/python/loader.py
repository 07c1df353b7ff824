"""Loads and unloads one version of a Python servable."""

from pathlib import Path

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.platforms.python.composition import OpenSession, ServedModels, request_of
from pyserving.platforms.python.model import PythonModel, logger
from pyserving.platforms.python.source_file import check_constants, find_class, forget, import_file, read_constants
from pyserving.platforms.python.time_limit import within


def load_python_model(servable: ServableId, folder: str, open_session: OpenSession) -> PythonModel:
    """Imports ``folder/model.py``, makes an object of its class and has it load. Raises ServingError."""
    constants = read_constants(folder)
    limit = constants.load_time_limit

    def load() -> PythonModel:
        module = import_file(folder, servable)
        try:
            cls = find_class(module)
            check_constants(cls, constants)
            author = cls()
            author.models = ServedModels()
            with request_of(servable, open_session, limit):
                author.load(Path(folder))
            return PythonModel(servable, module, author, open_session)
        except BaseException:
            forget(module)
            raise

    try:
        return within(limit, load, late=PythonModel.close)
    except TimeoutError:
        raise ServingError(
            Code.DEADLINE_EXCEEDED, f"{folder}/model.py was not imported and loaded within {limit:g} s"
        ) from None
    except ServingError:
        raise
    except BaseException as error:
        logger.error("Could not load %s", servable, exc_info=error)
        code = Code.RESOURCE_EXHAUSTED if isinstance(error, MemoryError) else Code.FAILED_PRECONDITION
        raise ServingError(code, f"{folder}/model.py raised {type(error).__name__}: {error}") from None
