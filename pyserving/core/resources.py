"""What servables need of the machine, and what there is."""

from dataclasses import dataclass

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of memory, in bytes."""

    ram_bytes: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.ram_bytes + other.ram_bytes)


class ResourceTracker:
    """Keeps account of what loaded versions need, within a limit. Changed only under its manager's lock."""

    def __init__(self, limit: Resources | None = None) -> None:
        self._limit = limit
        self._reserved: dict[ServableId, Resources] = {}

    @property
    def limit(self) -> Resources | None:
        """None: no limit."""
        return self._limit

    @property
    def used(self) -> Resources:
        return sum(list(self._reserved.values()), Resources())

    def of(self, servable_id: ServableId) -> Resources:
        """What is reserved for a version."""
        return self._reserved.get(servable_id, Resources())

    def reserve(self, servable_id: ServableId, need: Resources) -> None:
        """Takes what a version needs. Raises RESOURCE_EXHAUSTED where less than that is free."""
        if self._limit is not None:
            free = self._limit.ram_bytes - self.used.ram_bytes
            if need.ram_bytes > free:
                raise ServingError(
                    Code.RESOURCE_EXHAUSTED,
                    f"Servable {servable_id} needs {need.ram_bytes} bytes of memory, "
                    f"but {free} bytes are free of the limit of {self._limit.ram_bytes}",
                )
        self._reserved[servable_id] = need

    def release(self, servable_id: ServableId) -> None:
        """Gives back what the version had reserved, if anything."""
        self._reserved.pop(servable_id, None)
