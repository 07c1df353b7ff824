"""What requests see of the versions there are: those that serve."""

from collections.abc import Iterable, Mapping

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle, ServedVersion
from pyserving.core.servable import ServableId, ServableRequest


class ServingMap:
    """The versions that requests can reach, by name.

    An immutable map that each change replaces as a whole, so that requests wait for nothing. Changed by one thread at
    a time, or under its owner's lock.
    """

    def __init__(self) -> None:
        self._serving: Mapping[str, Mapping[int | None, ServedVersion]] = {}
        """By name, then by version, None being the latest. Never changed, only replaced."""

    def acquire(self, name: str, version: int | None = None) -> ServableHandle:
        """A handle on a version that serves, without a version on the highest. Raises NOT_FOUND."""
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

    def replace(self, name: str, versions: Iterable[ServedVersion]) -> None:
        """These are all versions of a stream that serve from now on."""
        served: dict[int | None, ServedVersion] = {version.id.version: version for version in versions}
        serving = dict(self._serving)
        if served:
            served[None] = max(served.values(), key=lambda version: version.id.version)
            serving[name] = served
        else:
            serving.pop(name, None)
        self._serving = serving
