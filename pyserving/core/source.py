"""Who says which versions there should be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pyserving.core.loader import Loader
from pyserving.core.servable import ServableId


@dataclass(frozen=True, slots=True)
class AspiredVersion:
    """A version that should be loaded, and the loader that can do it."""

    id: ServableId
    loader: Loader
    renew: Callable[[], Loader] | None = None
    """Makes another such loader, for when the version was unloaded and is needed again; None: it stays loaded."""


AspiredVersionsCallback = Callable[[str, Sequence[AspiredVersion]], None]
"""Called as (servable name, all versions aspired now); what is left out should be unloaded."""


class Source(Protocol):
    """Finds versions somewhere and calls an AspiredVersionsCallback with all of a stream's, again and again."""

    def start(self) -> None: ...

    def stop(self) -> None:
        """Returns once no further callback will come."""
        ...
