"""Which models are in memory: those that are used, within a budget, and those that have to be."""

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto

from pyserving.core.errors import Code, ServingError
from pyserving.core.harness import Harness
from pyserving.core.phase import Phase
from pyserving.core.resources import Resources, ResourceTracker

PATIENCE = 1.0
"""Seconds that a load waits for a model without a request to make room for it. Then those with requests go, too, after
their requests have ended: a model that always has one would else keep all others out."""
LOOK_AGAIN = 0.05
"""Seconds until it is looked again for a model that can make room."""
_MIN_STAY, _MAX_STAY = 0.1, 10.0

Streams = Mapping[str, Mapping[int, Harness]]


@dataclass(frozen=True, slots=True)
class Stay:
    """How a model comes into memory, and whether it may have to leave it."""

    lazy: bool = False
    """It is loaded at the first request."""
    pinned: bool = False
    """It is not evicted."""


EAGER = Stay()


class Room(Enum):
    """When there is room for a load."""

    SOON = auto()
    """When what is leaving, and what is to be evicted now, has gone."""
    LATER = auto()
    """When other models are done with their requests, or were in memory for long enough."""
    NEVER = auto()
    """Other models are needed more."""


class Residency:
    """What a Manager knows of models that need not be loaded. Changed under its manager's lock alone.

    A model is loaded and evicted as a whole, with all its versions. One that is **asleep** is loaded at the next
    request; while it is **waking**, requests wait for it. A model stays as long as its load took, if it took less than
    10 s: two that do not fit together spend no more time on loads than on answers.
    """

    def __init__(self, *, evicts: bool = False) -> None:
        """``evicts``: models make room for others. Without it all that are loaded stay, whatever the limit."""
        self.evicts = evicts
        self.stays: Mapping[str, Stay] = {}
        """By name; what is not in it is loaded at once, and may be evicted."""
        self.asleep: set[str] = set()
        self.waking: dict[str, Future[None]] = {}
        """By name: done at the next step of its versions."""
        self.loads: Counter[str] = Counter()
        """Loads for requests, by name."""
        self.evictions: Counter[str] = Counter()
        self._failures: dict[str, tuple[float, ServingError]] = {}
        """Until when models that could not be loaded are not tried again, and why."""
        self._evicted_at: dict[str, float] = {}
        self._warned = float("-inf")

    def stay(self, name: str) -> Stay:
        return self.stays.get(name, EAGER)

    def is_unloaded(self, name: str) -> bool:
        """Whether requests for the model have to wait for a load. Any thread may ask."""
        return name in self.asleep or name in self.waking

    def failure(self, name: str, now: float) -> ServingError | None:
        """Why the model could not be loaded, where that was not long ago. Tells after how long to try again."""
        until, error = self._failures.get(name, (0.0, None))
        if error is None or now >= until:
            self._failures.pop(name, None)
            return None
        code = error.code if error.code is Code.RESOURCE_EXHAUSTED else Code.UNAVAILABLE
        told = ServingError(code, f"Model {name} could not be loaded: {error.message}")
        told.retry_after = until - now
        return told

    def failed(self, name: str, error: ServingError, until: float) -> None:
        """The load for a request failed; the next attempt is not before ``until``."""
        self._failures[name] = (until, error)

    def forget(self, name: str) -> None:
        """There is no such model any more."""
        self.asleep.discard(name)
        self._failures.pop(name, None)
        self._evicted_at.pop(name, None)

    def wakes(self, name: str, now: float) -> str:
        """A request has the model loaded. Returns what an operator should know, now and then."""
        self.asleep.discard(name)
        if name not in self.waking:
            self.waking[name] = new_step()
        self.loads[name] += 1
        ago = now - self._evicted_at.get(name, float("-inf"))
        if not 0 <= ago < 60 or 0 <= now - self._warned < 60:
            return ""
        self._warned = now
        return (
            f"Model {name} is loaded again {ago:.1f} s after it was evicted: the models in use need more than the "
            f"memory budget. Evictions so far: {self.evictions.total()}"
        )

    def evicted(self, name: str, now: float) -> None:
        self.asleep.add(name)
        self.evictions[name] += 1
        self._evicted_at[name] = now

    def too_large(self, harness: Harness, need: Resources, streams: Streams, resources: ResourceTracker) -> str:
        """Why a version would not even fit if all others had made room; empty where it would."""
        assert resources.limit is not None
        limit = resources.limit.ram_bytes
        if need.ram_bytes > limit:
            return (
                f"Servable {harness.id} needs {need.ram_bytes} bytes of memory, more than all of the budget of {limit}"
            )
        stays = sum(
            resources.of(other.id).ram_bytes
            for stream_name, stream in streams.items()
            if stream_name == harness.id.name or self.stay(stream_name).pinned
            for other in stream.values()
            if not other.leaving
        )
        if need.ram_bytes > limit - stays:
            return (
                f"Servable {harness.id} needs {need.ram_bytes} bytes of memory, but of the budget of {limit} "
                f"{stays} bytes are taken by pinned models and its own other versions"
            )
        return ""

    def room(
        self, name: str, need: Resources, streams: Streams, resources: ResourceTracker, now: float, *, patient: bool
    ) -> tuple[Room, list[str]]:
        """When there is room for a version of ``name`` that is not too large, and which models to evict for that.

        Those that were used least recently go first. A model that nobody waits for, and that is not pinned, displaces
        only what was used less recently than it was. ``patient``: models with requests are left alone.
        """
        assert resources.limit is not None
        missing = need.ram_bytes - (resources.limit.ram_bytes - resources.used.ram_bytes)
        missing -= sum(
            resources.of(harness.id).ram_bytes
            for stream in streams.values()
            for harness in stream.values()
            if harness.leaving
        )
        urgent = name in self.waking or self.stay(name).pinned
        own_use = float("inf") if urgent else last_use(streams[name].values())
        others = sorted(
            (is_busy(stream.values()), last_use(stream.values()), other)
            for other, stream in streams.items()
            if other != name and self._may_go(other, stream.values()) and last_use(stream.values()) < own_use
        )
        victims, later = [], missing
        for busy, _, other in others:
            leaves = sum(
                resources.of(harness.id).ram_bytes for harness in streams[other].values() if not harness.leaving
            )
            later -= leaves
            if missing > 0 and not (busy and patient) and not _came_just_now(streams[other].values(), now):
                victims.append(other)
                missing -= leaves
        if missing <= 0:
            return Room.SOON, victims
        return Room.LATER if urgent or later <= 0 else Room.NEVER, []

    def _may_go(self, name: str, harnesses: Iterable[Harness]) -> bool:
        if self.stay(name).pinned:
            return False
        ready = False
        for harness in harnesses:
            if harness.phase in (Phase.LOADING, Phase.CHECKING) or not harness.can_return:
                return False
            ready = ready or harness.phase is Phase.READY
        return ready


def new_step() -> "Future[None]":
    """What requests wait for: a request that is cancelled does not cancel it for the others."""
    step: Future[None] = Future()
    step.set_running_or_notify_cancel()
    return step


def _came_just_now(harnesses: Iterable[Harness], now: float) -> bool:
    return any(
        harness.phase is Phase.READY
        and 0 <= now - harness.loaded_at < min(max(harness.load_seconds, _MIN_STAY), _MAX_STAY)
        for harness in harnesses
    )


def last_use(harnesses: Iterable[Harness]) -> int:
    """When a model got its last request, as a number that grows; 0: never since it was loaded."""
    return max((harness.served.used for harness in harnesses if harness.served), default=0)


def is_busy(harnesses: Iterable[Harness]) -> bool:
    """Whether requests hold the model."""
    return any(harness.served.handles for harness in harnesses if harness.served)
