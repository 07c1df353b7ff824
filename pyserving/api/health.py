"""Whether this server lives, and whether it should get traffic."""

import asyncio
from collections.abc import Callable, Iterable

from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.state import State


class Health:
    """Ready means: every configured model has a version to answer with, and the server is not about to stop.

    Used on one event loop.
    """

    def __init__(self, monitor: ServableStateMonitor, configured: Callable[[], Iterable[str]]) -> None:
        """``configured`` tells the names of the models that there should be now."""
        self._monitor = monitor
        self._configured = configured
        self._changed = asyncio.Event()
        self.draining = False

    @property
    def ready(self) -> bool:
        return not self.draining and not self.missing()

    def missing(self) -> list[str]:
        """The configured models of which no version is available."""
        return [name for name in self._configured() if not self._has_version(name)]

    def models(self) -> list[str]:
        """All configured models, available or not."""
        return list(self._configured())

    def available(self, name: str) -> bool:
        """Whether a model can answer, and the server takes requests."""
        return not self.draining and self._has_version(name)

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

    def _has_version(self, name: str) -> bool:
        return any(state.state is State.AVAILABLE for state in self._monitor.states(name))
