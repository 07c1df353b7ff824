"""Where a version stands in its life."""

from dataclasses import dataclass
from enum import IntEnum

from pyserving.core.errors import ServingError
from pyserving.core.servable import ServableId


class State(IntEnum):
    """What clients see of a version's life, numbered as ``ModelVersionStatus.State`` on the wire."""

    START = 10
    """Known to the manager, not loaded yet."""
    LOADING = 20
    AVAILABLE = 30
    """Requests can reach it."""
    UNLOADING = 40
    """Requests cannot reach it any more; those that hold a handle run to their end."""
    END = 50
    """Gone: unloaded, given up or failed."""


@dataclass(frozen=True, slots=True)
class ServableState:
    """A version entered a state."""

    id: ServableId
    state: State
    when: float
    """Seconds since the epoch."""
    error: ServingError | None = None
    """With END only: why the version could not be loaded, or what went wrong as it was unloaded."""
    dormant: bool = False
    """It is not loaded, but a request that needs it has it loaded, and waits for that."""
