"""A replica's end of the barrier: waits until versions are open, and tells of them once they are told."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State
from pyserving.ray.barrier import LEASE, Held, Picture, Report
from pyserving.server.gatekeeper import Check

Sync = Callable[[Report, Picture | None], Awaitable[Picture]]
"""``Barrier.sync`` of this replica."""

_PAUSE = 0.5
"""Seconds after a report that could not be delivered."""
_TRY_AGAIN = 5.0
"""Seconds after a config that could not be applied: a folder may show up later on this node."""

logger = logging.getLogger("pyserving.ray")


class Follower:
    """Of one model in one replica. To be made inside a running event loop."""

    def __init__(
        self,
        sync: Sync,
        tell: Callable[[ServableState], None],
        configure: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """``tell`` is given each state of a version once it holds; ``configure`` each new entry of the config file."""
        self._sync = sync
        self._tell = tell
        self._configure = configure
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Condition()
        """Guards what follows, and is notified of each new picture."""
        self._versions: dict[int, Held] = {}
        self._failed: dict[int, str] = {}
        self._settled = False
        self._picture: Picture | None = None
        self._number = 0
        self._changed = asyncio.Event()
        self._seen = asyncio.Event()
        """Set with each picture that comes."""
        self._configured = asyncio.Event()
        """Set once a config was applied, or a member could not apply it."""
        self._events: asyncio.Queue[ServableState] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> Picture:
        """Begins to report, and returns the first picture."""
        self._tasks += [asyncio.ensure_future(self._report_for_ever()), asyncio.ensure_future(self._tell_for_ever())]
        return await self._when(lambda _: True)

    def follow_config(self) -> None:
        """Begins to apply what pictures tell of the config file."""
        self._tasks.append(asyncio.ensure_future(self._configure_for_ever()))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def join(self) -> None:
        """Returns when this replica is a member of the barrier, and what the config file says was applied if it can be.

        Raises UNAVAILABLE where it cannot load what the others serve.
        """
        with self._lock:
            self._settled = True
        self._changed.set()
        while not (await self._when(lambda picture: picture.member or bool(self._lacking(picture)))).member:
            for version, why in self._lacking(self._picture or Picture()).items():
                raise ServingError(
                    Code.UNAVAILABLE, f"Version {version} of the model, which other replicas serve, failed here: {why}"
                )
        if (self._picture or Picture()).config:
            await self._configured.wait()

    def admit(self, servable: ServableId, check: Check) -> None:
        """Returns when requests may see the version. To be called on a thread that may wait.

        Raises FAILED_PRECONDITION where another replica could not load it, CANCELLED where it is wanted no more.
        """
        version = servable.version
        check.on_give_up(self._wake)
        with self._lock:
            self._versions[version] = Held.LOADED
            self._call(self._changed.set)
            while True:
                picture = self._picture or Picture()
                if not check.wanted():
                    self._drop(version)
                    raise ServingError(Code.CANCELLED, "the version is wanted no more")
                if version in picture.open:
                    return
                if refusal := picture.refused.get(version):
                    self._drop(version)
                    raise ServingError(Code.FAILED_PRECONDITION, refusal)
                self._lock.wait()

    def on_event(self, event: ServableState) -> None:
        """Takes what the manager posts, on any thread."""
        version = event.id.version
        with self._lock:
            if event.state is State.AVAILABLE:
                self._versions[version] = Held.SERVING
            elif event.state in (State.UNLOADING, State.END):
                self._drop(version)
            self._failed.pop(version, None)
            if event.error is not None:
                self._failed[version] = event.error.message
        self._call(self._changed.set)
        self._call(self._events.put_nowait, event)

    def _drop(self, version: int) -> None:
        self._versions.pop(version, None)
        self._call(self._changed.set)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: a load outlived the replica
            self._loop.call_soon_threadsafe(function, *args)

    def _wake(self) -> None:
        with self._lock:
            self._lock.notify_all()

    def _lacking(self, picture: Picture) -> dict[int, str]:
        """What others serve and this replica cannot, and why."""
        with self._lock:
            return {version: why for version, why in self._failed.items() if version in picture.open}

    async def _report_for_ever(self) -> None:
        reached = True
        while True:
            self._changed.clear()
            with self._lock:
                self._number += 1
                report = Report(self._number, dict(self._versions), dict(self._failed), self._settled)
            asking = asyncio.ensure_future(self._sync(report, self._picture))
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                done, _ = await asyncio.wait({asking, changed}, timeout=LEASE, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    raise ServingError(Code.DEADLINE_EXCEEDED, f"no answer within {LEASE:g} s")
                if asking in done:
                    self._see(_result(asking))
                    reached = True
            except Exception as error:
                if reached:
                    logger.warning("The replicas' versions cannot be kept in step for the moment: %s", error)
                reached = False
                await asyncio.sleep(_PAUSE)
            finally:
                asking.cancel()
                changed.cancel()

    def _see(self, picture: Picture) -> None:
        with self._lock:
            self._picture = picture
            self._lock.notify_all()
        self._seen.set()
        self._seen = asyncio.Event()

    async def _configure_for_ever(self) -> None:
        config, failure, wait = b"", "", None
        while True:
            config = await self._newer_config(config, wait)
            is_member = (self._picture or Picture()).member
            try:
                await self._configure(config)
                failure, wait = "", None
            except Exception as error:
                if repr(error) != failure:
                    bug = None if isinstance(error, ServingError) else error
                    logger.error("Could not apply the new config: %s", error, exc_info=bug)
                    failure = repr(error)
                wait = _TRY_AGAIN if is_member else _PAUSE  # a label may have to wait for its version
                if not is_member:
                    continue
            self._configured.set()

    async def _newer_config(self, tried: bytes, seconds: float | None) -> bytes:
        """What the config file says once that is not what was tried, or what was tried after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return (await self._when(lambda picture: picture.config not in (b"", tried))).config
        return tried

    async def _tell_for_ever(self) -> None:
        while True:
            event = await self._events.get()
            version = event.id.version
            if event.state is State.AVAILABLE:
                await self._when(lambda picture, v=version: v in picture.told or v not in self._versions)  # type: ignore[misc]
            self._tell(event)

    async def _when(self, true_of: Callable[[Picture], bool]) -> Picture:
        while self._picture is None or not true_of(self._picture):
            await self._seen.wait()
        return self._picture


def _result(asking: asyncio.Future[Picture]) -> Picture:
    """Raises what it failed with; that it was cancelled, too, and not by us, is a failure."""
    if asking.cancelled():
        raise ServingError(Code.CANCELLED, "the call was cancelled")
    return asking.result()
