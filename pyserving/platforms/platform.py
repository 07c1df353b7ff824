"""The interface of a platform: a kind of servable, such as SavedModels run by TensorFlow.

``docs/platforms.md`` shows how one is written and installed outside of this package.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pyserving.core.loader import Loader
from pyserving.core.servable import ServableId
from pyserving.platforms.python.composition import OpenSession, no_session
from pyserving.platforms.python.options import PythonOptions
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.platforms.tflite.options import TFLiteOptions

ENTRY_POINTS = "pyserving.platforms"
"""The group of entry points under which an installed package offers its platforms."""


@dataclass(frozen=True, slots=True)
class PlatformContext:
    """What a server tells its platforms."""

    num_threads: int = 0
    """Threads that share one operation; 0: as many as there are cores."""
    parallel_runs: int = 8
    """How many runs of one model may be asked for at the same time."""
    session_options: SessionOptions = field(default_factory=SessionOptions)
    tflite_options: TFLiteOptions = field(default_factory=TFLiteOptions)
    python_options: PythonOptions = field(default_factory=PythonOptions)
    open_session: OpenSession = no_session
    """How a model asks other models of the server."""
    op_libraries: Sequence[str] = ()
    """Paths of libraries of operations that a process of a model's own has to load; this process has done so."""
    isolated: bool = False
    """This process is one model's own."""


class Platform(Protocol):
    """A kind of servable. One object serves all models of that kind; its methods may be called from any thread.

    It is made by calling what the entry point names, a class as a rule, with a ``PlatformContext``. It should not
    import its engine before a model is loaded: folders are asked about on every server.
    """

    def recognises(self, folder: str) -> bool:
        """Whether the version folder holds what this platform serves. Looks at the names of files, no more."""
        ...

    def loader(self, servable: ServableId, folder: str) -> Loader:
        """The loader of the version in ``folder``, whose ``load()`` returns a ``Model``. Nothing is loaded yet.

        Loader and Model need no other bases than the protocols ``core.loader.Loader`` and ``platforms.model.Model``.
        """
        ...
