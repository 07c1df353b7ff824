"""The steps of a version's life as the manager takes them, finer than the states that clients see."""

from enum import Enum


class Phase(Enum):
    """Each is followed only by those that FOLLOWING lists."""

    NEW = "new"
    """To be loaded as soon as the policy and a free thread allow."""
    DORMANT = "dormant"
    """To be loaded when a request needs it; then NEW again."""
    LOADING = "loading"
    """A thread is in the loader's load()."""
    WAITING = "waiting"
    """A load failed, or found no room: to become NEW again after the retry interval, or when memory is given back."""
    CHECKING = "checking"
    """It is loaded, and the gate looks at it."""
    READY = "ready"
    """Serves."""
    DRAINING = "draining"
    """Serves no new request; waits for the handles out on it."""
    UNLOADING = "unloading"
    """No handle is left: in the loader's unload(), or in line for a thread to do it."""
    ENDED = "ended"


FOLLOWING = {
    Phase.NEW: {Phase.LOADING, Phase.DORMANT, Phase.ENDED},
    Phase.DORMANT: {Phase.NEW, Phase.ENDED},
    Phase.LOADING: {Phase.CHECKING, Phase.READY, Phase.WAITING, Phase.ENDED},
    Phase.CHECKING: {Phase.READY, Phase.DRAINING},
    Phase.WAITING: {Phase.NEW, Phase.ENDED},
    Phase.READY: {Phase.DRAINING},
    Phase.DRAINING: {Phase.UNLOADING},
    Phase.UNLOADING: {Phase.ENDED},
    Phase.ENDED: set[Phase](),
}
