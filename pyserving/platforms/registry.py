"""Which platforms there are, and which of them serves a version folder."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points

from pyserving.core.errors import Code, ServingError
from pyserving.core.loader import Loader
from pyserving.core.resources import Resources
from pyserving.core.servable import Servable, ServableId
from pyserving.platforms.folder_loader import FolderLoader
from pyserving.platforms.platform import ENTRY_POINTS, Platform, PlatformContext
from pyserving.platforms.process.isolation import Isolation
from pyserving.platforms.process.model import ProcessModel
from pyserving.platforms.process.spec import ProcessSpec
from pyserving.sources.model_config import TENSORFLOW_PLATFORM

# In the order in which they are asked. They are found as others' are, but need no installed metadata.
_BUILT_IN = (
    EntryPoint("tensorflow", "pyserving.platforms.tensorflow.platform:TensorFlowPlatform", ENTRY_POINTS),
    EntryPoint("python", "pyserving.platforms.python.platform:PythonPlatform", ENTRY_POINTS),
    EntryPoint("tflite", "pyserving.platforms.tflite.platform:TFLitePlatform", ENTRY_POINTS),
    EntryPoint("onnx", "pyserving.platforms.onnx.platform:OnnxPlatform", ENTRY_POINTS),
    EntryPoint("openvino", "pyserving.platforms.openvino.platform:OpenVinoPlatform", ENTRY_POINTS),
    EntryPoint("table", "pyserving.platforms.table.platform:TablePlatform", ENTRY_POINTS),
)

logger = logging.getLogger("pyserving.platforms")


def find_platforms() -> Mapping[str, EntryPoint]:
    """The platforms by name, in the order in which they are asked: those built in, then those of other packages.

    None of them is imported. A name that is built in cannot be taken by another package.
    """
    found = {entry.name: entry for entry in _BUILT_IN}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)):
        taken = found.setdefault(entry.name, entry)
        if taken.value != entry.value:
            logger.warning("Platform %s is %s; %s is passed over", entry.name, taken.value, entry.value)
    return found


class Platforms:
    """The platforms of one server, each made when it is first asked."""

    def __init__(self, context: PlatformContext, *, prefer: str = "") -> None:
        """``prefer``: the name of the one that is asked before all others."""
        found = find_platforms()
        self._entries = {name: found[name] for name in sorted(found, key=lambda name: name != prefer)}
        self._context = context
        self._made: dict[str, Platform | ServingError] = {}
        self._lock = threading.Lock()

    def loader(self, servable: ServableId, folder: str, platform: str, isolation: Isolation | None = None) -> Loader:
        """The loader of the version in ``folder``, of a model that is configured to be of ``platform``.

        With ``isolation`` the version gets a process of its own, whatever its platform.

        Of TensorFlow is what every config written for TensorFlow Serving says, and what holds where there is no config:
        then the first platform that recognises the folder serves it, and one that none recognises is left to
        TensorFlow. Raises nothing: where there is no loader, the one returned says why when it loads.
        """
        name = platform
        if platform == TENSORFLOW_PLATFORM:
            name = self.platform_of(folder) or platform
        try:
            loader = self._platform(name).loader(servable, folder)
            return loader if isolation is None else self._isolated(servable, folder, name, isolation)
        except ServingError as error:
            return _FailingLoader(error)
        except Exception as error:
            return _FailingLoader(self._failed(name, error))

    def _isolated(self, servable: ServableId, folder: str, name: str, isolation: Isolation) -> Loader:
        spec = ProcessSpec(servable, name, folder, self._context, **asdict(isolation))
        return FolderLoader(folder, lambda _: ProcessModel(spec))

    def platform_of(self, folder: str) -> str | None:
        """The name of the first platform that recognises the folder. Raises nothing."""
        return next((name for name in self._entries if self._recognises(name, folder)), None)

    def _recognises(self, name: str, folder: str) -> bool:
        try:
            return self._platform(name).recognises(folder)
        except ServingError:  # it cannot be used, and that was logged
            return False
        except Exception as error:
            self._failed(name, error)
            return False

    def _platform(self, name: str) -> Platform:
        """Raises NOT_FOUND for a name that no package offers, FAILED_PRECONDITION where its code fails."""
        if name not in self._entries:
            raise ServingError(Code.NOT_FOUND, f"no platform {name}: expected one of {', '.join(self._entries)}")
        with self._lock:
            made = self._made.get(name)
            if made is None:
                made = self._made[name] = self._make(name)
        if isinstance(made, ServingError):
            raise ServingError(made.code, made.message)
        return made

    def _make(self, name: str) -> Platform | ServingError:
        try:
            platform: Platform = self._entries[name].load()(self._context)
            return platform
        except Exception as error:
            return self._failed(name, error)

    def _failed(self, name: str, error: Exception) -> ServingError:
        """What clients are told of an error in a platform's code; the log gets its traceback."""
        where = self._entries[name].value
        logger.error("Platform %s (%s) cannot be used", name, where, exc_info=error)
        return ServingError(
            Code.FAILED_PRECONDITION, f"platform {name} ({where}) cannot be used: {type(error).__name__}: {error}"
        )


class _FailingLoader:
    """A ``Loader`` of what cannot be loaded: the error belongs to the version, and harms no other."""

    def __init__(self, error: ServingError) -> None:
        self._error = error

    def estimate_resources(self) -> Resources:
        return Resources()

    def load(self) -> Servable:
        raise ServingError(self._error.code, self._error.message)

    def unload(self) -> None:
        pass
