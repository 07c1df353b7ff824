"""Values read from files, and read again when these change: certificates, API keys."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pyserving.core.errors import ServingError

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""Between two looks at the files."""

logger = logging.getLogger("pyserving.server")


class Reloading(Generic[T]):
    """What a function reads from files, as they were when it last succeeded: what cannot be read changes nothing.

    Links are followed: files that Kubernetes mounts from a Secret change by a link that is turned.
    """

    def __init__(self, what: str, paths: Sequence[str], read: Callable[[], T]) -> None:
        """``what`` is for the log. Raises what ``read`` does: at the start, what cannot be read is an error."""
        self._what = what
        self._paths = paths
        self._read = read
        # Taken before it is read: a change in between is seen by the next look.
        self._stamps = self._look()
        self.value = read()
        self._timer: asyncio.TimerHandle | None = None

    def check(self) -> None:
        """Reads the files again if they have changed. A failure is logged once for each change."""
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self.value = self._read()
        except ServingError as error:
            logger.error("%s changed and cannot be used; what was read before stays: %s", self._what, error)
        except OSError as error:
            logger.error("%s changed and cannot be read; what was read before stays: %s", self._what, error)
        else:
            logger.info("%s were read again", self._what)

    def watch(self) -> None:
        """Looks at the files at once, for they may have been read in another process long ago, and then again and
        again, on the running event loop."""
        self.check()
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self.watch)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> list[tuple[int, int, int] | None]:
        """Inode, size and time of change of each file; None: it is not there."""
        stamps: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                found = os.stat(path)
            except OSError:
                stamps.append(None)
            else:
                stamps.append((found.st_ino, found.st_size, found.st_mtime_ns))
        return stamps
