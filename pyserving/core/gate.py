"""Decides whether a version that is loaded may become available."""

from typing import Protocol

from pyserving.core.handle import ServedVersion
from pyserving.core.servable import ServableId


class Gate(Protocol):
    """Looks at versions between their load and their being available."""

    def check(self, version: ServedVersion) -> None:
        """Returns when requests may reach the version; raises ServingError where they must not.

        Called on a thread of its own, that may wait as long as it likes: other loads go on meanwhile. All handles that
        it takes are released, or will be soon, when it returns.
        """
        ...

    def give_up(self, servable_id: ServableId) -> None:
        """The version is wanted no more: a check that is under way has to end soon. Returns at once."""
        ...
