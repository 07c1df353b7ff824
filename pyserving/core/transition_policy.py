"""In which order a stream goes from the versions it has to the versions it should have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pyserving.core.phase import Phase


class StreamVersion(NamedTuple):
    """What a policy needs to know of a version."""

    version: int
    phase: Phase
    aspired: bool
    """Also true of a version that is going and was aspired again: it will be NEW once it is gone."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load this version, which is NEW."""

    version: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload this version, which is READY."""

    version: int


class TransitionPolicy(Protocol):
    """TensorFlow Serving's AspiredVersionPolicy."""

    def next_action(self, versions: Sequence[StreamVersion]) -> Load | Unload | None:
        """What to do next in a stream, given all its versions; asked again after each action and each change."""
        ...


class AvailabilityPreserving:
    """Loads the new version before the old one goes, so that one is always there to serve.

    A version that is no longer aspired goes once an aspired one is ready, or if none is aspired at all. Until
    then one such version is enough: of several the highest stays. If no aspired version can be loaded, it stays
    for good.
    """

    def next_action(self, versions: Sequence[StreamVersion]) -> Load | Unload | None:
        aspired = [v for v in versions if v.aspired]
        left_over = [v.version for v in versions if not v.aspired and v.phase is Phase.READY]
        successor_serves = not aspired or any(v.phase is Phase.READY for v in aspired)
        if left_over and (successor_serves or len(left_over) > 1):
            return Unload(min(left_over))
        return _load_highest_new(versions)


class ResourcePreserving:
    """Unloads old versions before it loads new ones, so that both are never in memory; for a while none serves."""

    def next_action(self, versions: Sequence[StreamVersion]) -> Load | Unload | None:
        going = [
            v
            for v in versions
            if v.phase in (Phase.DRAINING, Phase.UNLOADING) or (not v.aspired and v.phase is not Phase.ENDED)
        ]
        for version in going:
            if version.phase is Phase.READY:
                return Unload(version.version)
        return None if going else _load_highest_new(versions)


def _load_highest_new(versions: Sequence[StreamVersion]) -> Load | None:
    new = [v.version for v in versions if v.aspired and v.phase is Phase.NEW]
    return Load(max(new)) if new else None
