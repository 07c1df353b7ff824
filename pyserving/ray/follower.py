"""A replica's end of the barrier: waits until versions are open, and tells of them once they are told."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State
from pyserving.ray.barrier import Held, Picture, Report
from pyserving.server.gatekeeper import Check

Sync = Callable[[Report, Picture | None], Awaitable[Picture]]
"""``Barrier.sync`` of this replica."""

_PAUSE = 0.5
"""Seconds after a report that could not be delivered."""

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
        self._events: asyncio.Queue[ServableState] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> Picture:
        """Begins to report, and returns the first picture."""
        self._tasks = [asyncio.ensure_future(self._report_for_ever()), asyncio.ensure_future(self._tell_for_ever())]
        return await self._when(lambda _: True)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def join(self) -> None:
        """Returns when this replica is a member of the barrier."""
        with self._lock:
            self._settled = True
        self._changed.set()
        await self._when(lambda picture: picture.member)

    def admit(self, servable: ServableId, check: Check) -> None:
        """Returns when requests may see the version. To be called on a thread that may wait.

        Raises FAILED_PRECONDITION where another replica could not load it, CANCELLED where it is wanted no more.
        """
        version = servable.version
        check.on_give_up(self._wake)
        with self._lock:
            self._versions[version] = Held.LOADED
            self._loop.call_soon_threadsafe(self._changed.set)
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
        with contextlib.suppress(RuntimeError):  # the loop is closed: a load outlived the replica
            self._loop.call_soon_threadsafe(self._changed.set)
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _drop(self, version: int) -> None:
        self._versions.pop(version, None)
        self._loop.call_soon_threadsafe(self._changed.set)

    def _wake(self) -> None:
        with self._lock:
            self._lock.notify_all()

    async def _report_for_ever(self) -> None:
        while True:
            self._changed.clear()
            with self._lock:
                self._number += 1
                report = Report(self._number, dict(self._versions), dict(self._failed), self._settled)
            asking = asyncio.ensure_future(self._sync(report, self._picture))
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait({asking, changed}, return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    self._see(asking.result())
            except Exception as error:
                logger.warning("The replicas' versions cannot be kept in step for the moment: %s", error)
                await asyncio.sleep(_PAUSE)
            finally:
                asking.cancel()
                changed.cancel()

    def _see(self, picture: Picture) -> None:
        before = self._picture
        with self._lock:
            self._picture = picture
            self._lock.notify_all()
        self._seen.set()
        self._seen = asyncio.Event()
        if picture.config and (before is None or picture.config != before.config):
            self._tasks.append(asyncio.ensure_future(self._configure_with(picture.config)))

    async def _configure_with(self, config: bytes) -> None:
        try:
            await self._configure(config)
        except ServingError as error:
            logger.error("Could not apply the new config: %s", error)

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
