"""What a servable needs of the machine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of memory, in bytes."""

    ram_bytes: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.ram_bytes + other.ram_bytes)
