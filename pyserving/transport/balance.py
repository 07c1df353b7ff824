"""Shares the connections of one listening socket among processes.

Each process that waits on an inherited socket is woken by each new connection, and the quickest takes it: often the one
that has no work because it has just been woken. With connections that stay, one process may so end up with most of
them. Hence the processes tell each other how many they have, and one that has more than another lets that one go first.
"""

import asyncio
import logging
import mmap
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType

PATIENCE = 0.001
"""Seconds that a process leaves a connection to others, before it takes it nevertheless."""
TROUBLE_SECONDS = 1.0
"""How long nothing is accepted after that failed, as where a process has no file descriptor left."""

_SHORT_SECONDS = 0.1
_CHURN, _CHURN_SECONDS = 32, 0.2
"""Where so many connections that were shorter than ``_SHORT_SECONDS`` ended within this time, clients connect for each
request: then nothing is left to others, for no inequality lasts."""

_ABSENT = -1

logger = logging.getLogger("pyserving.transport")


class Balance:
    """How many connections each process has on each listener: numbers in memory that forked processes share."""

    def __init__(self, listeners: int, processes: int) -> None:
        self._processes = processes
        self._counts = memoryview(mmap.mmap(-1, 4 * listeners * processes)).cast("i")
        for place in range(len(self._counts)):
            self._counts[place] = _ABSENT

    def seat(self, process: int) -> "Seat":
        """That of the process with this number, from 0."""
        return Seat(self._counts, self._processes, process)


class Seat:
    """One process's part of a Balance."""

    def __init__(self, counts: memoryview, processes: int, process: int) -> None:
        self._counts = counts
        self._processes = processes
        self._process = process

    def share(self, listener: int) -> "Share":
        """Its part of the connections of the listener with this number, from 0."""
        first = listener * self._processes
        return Share(self._counts[first : first + self._processes], self._process)

    def leave(self) -> None:
        """The process accepts nothing any more, as when it has died: nobody leaves connections to it."""
        for place in range(self._process, len(self._counts), self._processes):
            self._counts[place] = _ABSENT


class Share:
    """How many connections of one listener this process has, and whether others have fewer."""

    def __init__(self, counts: memoryview, process: int) -> None:
        self._counts = counts
        self._process = process
        self._since: dict[object, float] = {}
        """When each connection began."""
        self._short_ends: deque[float] = deque(maxlen=_CHURN)
        self._leaving = False

    def join(self) -> None:
        """Tells the others that this process accepts."""
        self._tell()

    def leave(self) -> None:
        """Tells the others that this process accepts no more."""
        self._leaving = True
        self._tell()

    def opened(self, connection: object) -> None:
        self._since[connection] = time.monotonic()
        self._tell()

    def closed(self, connection: object) -> None:
        now = time.monotonic()
        if now - self._since.pop(connection, 0.0) < _SHORT_SECONDS:
            self._short_ends.append(now)
        self._tell()

    @property
    def is_ahead(self) -> bool:
        """Whether another process, one that accepts, has fewer, and that would stay so."""
        mine = self._counts[self._process]
        return any(_ABSENT < count < mine for count in self._counts) and not self._is_churning()

    def _is_churning(self) -> bool:
        ends = self._short_ends
        return len(ends) == _CHURN and time.monotonic() - ends[0] < _CHURN_SECONDS

    def _tell(self) -> None:
        self._counts[self._process] = _ABSENT if self._leaving else len(self._since)


class BalancedAcceptor:
    """Accepts connections on a socket on which other processes accept, too.

    In place of ``loop.create_server``, which takes all that waits whenever it is woken. Needs a loop that can watch
    file descriptors, as every loop on POSIX can.
    """

    def __init__(
        self,
        listening: socket.socket,
        new_connection: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        share: Share,
        tls_timeouts: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """``tls_timeouts``: as asyncio names them."""
        self._tls_timeouts = tls_timeouts
        self._listening = listening
        self._new_connection = new_connection
        self._tls = tls
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._loop.add_reader(listening, self._on_ready)

    def close(self) -> None:
        """Closes this process's socket; connections live on."""
        self._loop.remove_reader(self._listening)
        if self._timer is not None:
            self._timer.cancel()
        self._listening.close()

    def _on_ready(self) -> None:
        if self._share.is_ahead:
            self._pause(PATIENCE)
        else:
            self._accept()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._timer = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self._loop.add_reader(self._listening, self._on_ready)
        self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process was quicker, or the client has gone
        except OSError as error:
            logger.error("Cannot accept connections for now: %s", error)
            self._pause(TROUBLE_SECONDS)
            return
        opening = self._loop.create_task(open_accepted(connection, self._new_connection, self._tls, self._tls_timeouts))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)


async def open_accepted(
    connection: socket.socket,
    new_connection: Callable[[], asyncio.Protocol],
    tls: ssl.SSLContext | None,
    tls_timeouts: Mapping[str, float],
) -> None:
    """Runs a protocol on a connection that was accepted; returns once it is open, or was closed for it could not be."""
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_accepted_socket(new_connection, connection, ssl=tls, **tls_timeouts)
    except (OSError, ssl.SSLError) as error:
        logger.debug("A connection was not opened: %s", error)
        connection.close()
