"""Whether this server lives, and whether it should get traffic."""

from collections.abc import Callable, Iterable

from pyserving.core.manager import Manager


class Health:
    """Ready means: every configured model has a version to answer with, and the server is not about to stop."""

    def __init__(self, manager: Manager, configured: Callable[[], Iterable[str]]) -> None:
        """``configured`` tells the names of the models that there should be now."""
        self._manager = manager
        self._configured = configured
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
