"""Keeps the versions of a model in step across its replicas: requests see a version once every replica has it.

It decides three things from what replicas report. A version is **open** once all members hold it: from then on each
lets requests see it. It is **told** once all members serve it: from then on status calls it AVAILABLE. It is
**refused** where a member could not load it, so that the others do not serve it either. A replica is a **member** once
it serves all that is open; before that it gets no requests, and nobody waits for it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

LEASE = 5.0
"""Seconds after which a replica that reports nothing is taken as gone."""
WAIT = 1.0
"""The most seconds that an answer to a report is held back; so replicas report at least so often."""


class Held(IntEnum):
    """How far a replica is with a version."""

    LOADED = 1
    """It waits for the version to be open."""
    SERVING = 2
    """Requests see it."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a replica has to say, each time."""

    number: int
    """Grows with each report; an older one that comes late is passed over."""
    versions: Mapping[int, Held] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    """Versions that could not be loaded, and why."""
    settled: bool = False
    """It would be a member, or is one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a replica is answered."""

    open: frozenset[int] = frozenset()
    told: frozenset[int] = frozenset()
    refused: Mapping[int, str] = field(default_factory=dict)
    member: bool = False
    config: bytes = b""
    """The config of this model alone, as its file has it now (``ModelServerConfig``); empty: it is as deployed."""


@dataclass(slots=True)
class _Replica:
    report: Report
    expires: float
    member: bool = False


class Barrier:
    """Of one model. Used on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._replicas: dict[str, _Replica] = {}
        self._open: set[int] = set()
        self._decides_from = 0.0
        """Nothing is opened or told before: not all replicas had the time to report."""
        self._looked = clock()
        self._config = b""
        self._changed = asyncio.Event()

    @property
    def config(self) -> bytes:
        return self._config

    @config.setter
    def config(self, config: bytes) -> None:
        self._config = config
        self._notify()

    async def sync(self, replica: str, report: Report, known: Picture | None) -> Picture:
        """Takes a report; returns the picture once it is not ``known``, or after ``WAIT`` seconds."""
        self.take(replica, report, has_reported=known is not None)
        end = self._clock() + WAIT
        while (picture := self.picture(replica)) == known and (left := end - self._clock()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                break
        return picture

    def take(self, replica: str, report: Report, *, has_reported: bool = False) -> None:
        """``has_reported``: it has heard of a barrier before, be it of another one."""
        now = self._clock()
        found = self._replicas.get(replica)
        if found is None:
            if (report.settled or has_reported) and not any(other.report.settled for other in self._replicas.values()):
                # We are new and it is not: others may report soon, and nothing opens without them.
                self._decides_from = now + LEASE
            found = self._replicas[replica] = _Replica(report, now + LEASE)
        elif report.number > found.report.number:
            found.report = report
        found.expires = now + LEASE
        self._update()
        self._notify()

    def leave(self, replica: str) -> None:
        """It will not serve any more."""
        self._replicas.pop(replica, None)
        self._update()
        self._notify()

    def picture(self, replica: str) -> Picture:
        self._update()
        reports = [other.report for other in self._members()]
        told = {v for v in self._open if all(report.versions.get(v) is Held.SERVING for report in reports)}
        if self._clock() < self._decides_from:
            told.clear()
        refused = {
            version: f"replica {name} could not load it: {why}"
            for name, other in self._replicas.items()
            if other.member
            for version, why in other.report.failed.items()
            if version not in self._open
        }
        found = self._replicas.get(replica)
        return Picture(frozenset(self._open), frozenset(told), refused, bool(found and found.member), self._config)

    def _members(self) -> list[_Replica]:
        return [replica for replica in self._replicas.values() if replica.member]

    def _update(self) -> None:
        before = (set(self._open), {name: replica.member for name, replica in self._replicas.items()})
        now = self._clock()
        if now - self._looked > 2 * WAIT:
            # Where there is a replica, we look at least every WAIT seconds. Did we not, it was us who heard nothing.
            for replica in self._replicas.values():
                replica.expires = now + LEASE
        self._looked = now
        self._replicas = {name: replica for name, replica in self._replicas.items() if replica.expires > now}
        replicas = self._replicas.values()
        members = [replica.report for replica in self._members()]
        # What a replica serves was open when it began to, though we may not have been there.
        self._open |= {v for replica in replicas for v, held in replica.report.versions.items() if held is Held.SERVING}
        if now >= self._decides_from:
            loaded = {version for replica in replicas for version in replica.report.versions}
            self._open |= {version for version in loaded if all(version in report.versions for report in members)}
        holders = members or [replica.report for replica in replicas]
        self._open = {version for version in self._open if any(version in report.versions for report in holders)}
        for replica in replicas:
            served = {version for version, held in replica.report.versions.items() if held is Held.SERVING}
            if replica.report.settled and self._open <= served:
                replica.member = True
        if before != (self._open, {name: replica.member for name, replica in self._replicas.items()}):
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
