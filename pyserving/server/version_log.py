"""A line in the log for each step in a version's life, with the time that it took."""

import logging

from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State

logger = logging.getLogger("pyserving.server")


class VersionLog:
    """Listens to an event bus, which calls from one thread at a time."""

    def __init__(self) -> None:
        self._since: dict[ServableId, float] = {}
        """When a version began to load or to unload."""

    def __call__(self, event: ServableState) -> None:
        match event.state:
            case State.START:
                self._log(event, "adding", "Adding servable %s", event.id)
            case State.LOADING:
                self._since[event.id] = event.when
                self._log(event, "loading", "Loading servable %s", event.id)
            case State.AVAILABLE:
                ms = self._milliseconds(event)
                self._log(event, "loaded", "Loaded servable %s in %.0f ms", event.id, ms, ms=ms)
            case State.UNLOADING:
                self._since[event.id] = event.when
                self._log(event, "unloading", "Unloading servable %s", event.id)
            case State.END:
                ms = self._milliseconds(event)
                if event.error is not None:
                    self._log(event, "failed", "Servable %s failed: %s", event.id, event.error, error=str(event.error))
                else:
                    self._log(event, "unloaded", "Unloaded servable %s in %.0f ms", event.id, ms, ms=ms)

    def _milliseconds(self, event: ServableState) -> float:
        """Since what the version began last; 0 for one that ended before it began anything."""
        return (event.when - self._since.pop(event.id, event.when)) * 1e3

    def _log(self, event: ServableState, kind: str, text: str, *arguments: object, **more: float | str) -> None:
        fields = {"event": kind, "model": event.id.name, "version": event.id.version, **more}
        logger.log(logging.ERROR if event.error else logging.INFO, text, *arguments, extra={"fields": fields})
