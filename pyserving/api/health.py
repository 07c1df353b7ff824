"""Whether this server lives, and whether it should get traffic."""

import asyncio
from collections.abc import Callable, Iterable

from pyserving.core.manager import Manager


class Health:
    """Ready means: every configured model has a version to answer with, and the server is not about to stop.

    Used on one event loop.
    """

    def __init__(self, manager: Manager, configured: Callable[[], Iterable[str]]) -> None:
        """``configured`` tells the names of the models that there should be now."""
        self._manager = manager
        self._configured = configured
        self._changed = asyncio.Event()
        self.draining = False

    @property
    def ready(self) -> bool:
        return not self.draining and not self.missing()

    def missing(self) -> list[str]:
        """The configured models of which no version is available."""
        return [name for name in self._configured() if not self._manager.available(name)]

    def models(self) -> list[str]:
        """All configured models, available or not."""
        return list(self._configured())

    def available(self, name: str) -> bool:
        """Whether a model can answer, and the server takes requests."""
        return not self.draining and bool(self._manager.available(name))

    def drain(self) -> None:
        """From now on nothing is ready."""
        self.draining = True
        self.notify()

    def notify(self) -> None:
        """Something may be different now."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Waits for the next ``notify``."""
        await self._changed.wait()
