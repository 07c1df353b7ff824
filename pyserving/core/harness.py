"""Takes one Loader through its life, and keeps what goes wrong from going further."""

import logging
from collections.abc import Callable
from typing import TypeVar

from pyserving.core.errors import Code, ServingError
from pyserving.core.gate import Gate
from pyserving.core.handle import ServedVersion
from pyserving.core.loader import Loader
from pyserving.core.phase import FOLLOWING, Phase
from pyserving.core.resources import Resources
from pyserving.core.servable import Servable, ServableId
from pyserving.core.source import AspiredVersion
from pyserving.core.state import State

T = TypeVar("T")

_log = logging.getLogger("pyserving.core")


class Harness:
    """One version under management, from START to END.

    The attributes belong to the manager's lock. ``estimate``, ``load`` and ``unload`` take long and are called
    without it, one at a time.
    """

    def __init__(self, aspired: AspiredVersion) -> None:
        self.id: ServableId = aspired.id
        self.phase = Phase.NEW
        self.aspired = True
        self.given_up = False
        """It was aspired no more while the gate looked at it: it will go, even if it is aspired again."""
        self.state = State.START
        """What was told of it last."""
        self.failures = 0
        """Loads that failed."""
        self.error: ServingError | None = None
        """Of the last load that failed, or why the gate refused it."""
        self.served: ServedVersion | None = None
        """While CHECKING, READY or DRAINING."""
        self.successor: AspiredVersion | None = None
        """The same version, aspired again while this one was on its way out."""
        self.waits_for_room_since: float | None = None
        self.loaded_at = 0.0
        self.load_seconds = 0.0
        """How long its load took, once it is loaded."""
        self._loader: Loader | None = aspired.loader
        self._renew = aspired.renew

    @property
    def wanted(self) -> bool:
        """The version is aspired, if only once this one has gone."""
        return self.aspired or self.successor is not None

    @property
    def leaving(self) -> bool:
        """Its memory will soon be given back."""
        return self.given_up or self.phase in (Phase.DRAINING, Phase.UNLOADING)

    @property
    def can_return(self) -> bool:
        """Whether it can be loaded again once it is unloaded."""
        return self._renew is not None

    def renewed(self) -> AspiredVersion:
        """The same version, to be loaded anew. Only where it ``can_return``."""
        assert self._renew is not None
        return AspiredVersion(self.id, self._renew(), self._renew)

    def enter(self, phase: Phase) -> None:
        """Raises RuntimeError where ``phase`` cannot follow."""
        if phase not in FOLLOWING[self.phase]:
            raise RuntimeError(f"Servable {self.id} cannot go from {self.phase.value} to {phase.value}")
        self.phase = phase
        if phase is Phase.ENDED:
            # A version that failed is remembered while it is aspired; what it held in memory is not. Nor may memory
            # wait for the garbage collector: the harness and what is served refer to each other.
            self._loader = None
            self.served = None

    def estimate(self) -> Resources | ServingError:
        """What the version needs, or why that cannot be said."""
        return self._guarded("estimate the resources of", lambda loader: loader.estimate_resources())

    def load(self) -> Servable | ServingError:
        """The servable, or why it could not be loaded."""
        return self._guarded("load", lambda loader: loader.load())

    def check(self, gate: Gate, served: ServedVersion) -> ServingError | None:
        """Why the gate refuses the version, if it does."""
        return self._guarded("check", lambda _: gate.check(served))

    def unload(self) -> ServingError | None:
        """What went wrong, if anything: the version is gone in any case."""
        return self._guarded("unload", lambda loader: loader.unload())

    def _guarded(self, what: str, call: Callable[[Loader], T]) -> T | ServingError:
        """Errors are returned, as new objects: a raised one keeps the frames alive, and with them what was loaded."""
        loader = self._loader
        if loader is None:
            raise RuntimeError(f"Servable {self.id} ended: cannot {what} it")
        try:
            return call(loader)
        except ServingError as error:
            return ServingError(error.code, error.message)
        except BaseException as error:
            # Loaders run code of others, which may even call sys.exit().
            _log.exception("Could not %s servable %s", what, self.id)
            return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
