"""Which of the versions that exist should be loaded."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latest:
    """The highest numbers. The policy of a servable that asks for none."""

    num_versions: int = 1
    """How many; 0 means 1, as in TensorFlow Serving."""

    def select(self, versions: Iterable[int]) -> list[int]:
        return sorted(versions)[-max(self.num_versions, 1) :]


@dataclass(frozen=True, slots=True)
class All:
    """Every version there is."""

    def select(self, versions: Iterable[int]) -> list[int]:
        return sorted(versions)


@dataclass(frozen=True, slots=True)
class Specific:
    """These versions, as far as they exist."""

    versions: frozenset[int]

    def select(self, versions: Iterable[int]) -> list[int]:
        return sorted(self.versions.intersection(versions))


VersionPolicy = Latest | All | Specific
"""``select`` takes the versions that exist and returns those to load, in increasing order."""
