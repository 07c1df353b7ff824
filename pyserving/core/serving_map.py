"""What requests see of the versions there are: those that serve."""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle, ServedVersion, SharedHandle
from pyserving.core.servable import Servable, ServableId, ServableRequest


class ServingMap:
    """The versions that requests can reach, by name.

    An immutable map that each change replaces as a whole, so that requests wait for nothing.
    """

    def __init__(self) -> None:
        self._serving: Mapping[str, Mapping[int | None, ServedVersion]] = {}
        """By name, then by version, None being the default one. Never changed, only replaced."""
        self._directed: dict[str, int] = {}
        self._changing = threading.Lock()

    def acquire(self, name: str, version: int | None = None) -> ServableHandle:
        """A handle on a version that serves, without a version on the default one. Raises NOT_FOUND."""
        while True:
            try:
                served = self._serving[name][version]
            except KeyError:
                request = ServableRequest(name, version)
                raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {request}") from None
            handle = served.hold()
            if handle is not None:
                return handle
            # It went just now, and before that the map was replaced by one without it.

    def available(self, name: str) -> list[int]:
        """The versions of a stream that serve, the highest first."""
        return sorted((version for version in self._serving.get(name, {}) if version is not None), reverse=True)

    def is_available(self, servable_id: ServableId) -> bool:
        return servable_id.version in self._serving.get(servable_id.name, {})

    def handles_out(self) -> dict[ServableId, int]:
        """How many handles are out on each version that serves."""
        return {served.id: len(served.handles) for stream in self._serving.values() for served in stream.values()}

    def requests_in_flight(self) -> dict[ServableId, int]:
        """How many requests hold each version that serves; jobs that they have begun do not count beside them."""
        return {
            served.id: sum(not isinstance(handle, SharedHandle) for handle in served.handles.copy())
            for stream in self._serving.values()
            for served in stream.values()
        }

    def served(self) -> dict[ServableId, Servable]:
        """All versions that serve. Whoever uses one needs a handle."""
        return {served.id: served.servable for stream in self._serving.values() for served in stream.values()}

    def default(self, name: str) -> int | None:
        """The version that requests get which ask for none; None where they get none."""
        served = self._serving.get(name, {}).get(None)
        return None if served is None else served.id.version

    def peek(self, name: str) -> Any:
        """What serves as the default version of ``name``, to look at and not to use; None where nothing does."""
        served = self._serving.get(name, {}).get(None)
        return None if served is None else served.servable

    def replace(self, name: str, versions: Iterable[ServedVersion]) -> None:
        """These are all versions of a stream that serve from now on."""
        with self._changing:
            self._put(name, {version.id.version: version for version in versions})

    def direct(self, name: str, version: int | None) -> None:
        """The default version is this one, and none while it does not serve; with None it is the highest again."""
        with self._changing:
            if version is None:
                self._directed.pop(name, None)
            else:
                self._directed[name] = version
            served = self._serving.get(name, {})
            self._put(name, {number: one for number, one in served.items() if number is not None})

    def _put(self, name: str, versions: Mapping[int, ServedVersion]) -> None:
        served: dict[int | None, ServedVersion] = {version: one for version, one in versions.items()}  # noqa: C416
        serving = dict(self._serving)
        if versions:
            default = versions.get(self._directed.get(name, max(versions)))
            if default is not None:
                served[None] = default
            serving[name] = served
        else:
            serving.pop(name, None)
        self._serving = serving
