"""Forks workers, from a process that can: one thread, no event loop, no session."""

import asyncio
import gc
import logging
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from pyserving.core.errors import Code, ServingError

logger = logging.getLogger("pyserving.server")

_ORDER = struct.Struct("!i")
"""To the nursery, with one end of a worker's channel: the worker's number."""
_REPORT = struct.Struct("!iii")
"""From the nursery: a worker's number, its process, and once it has ended its exit code; before, _RUNS."""
_RUNS = 1 << 16

Work = Callable[[int, socket.socket], int]
"""What a worker does, given its number and its end of the channel to the supervisor; returns the exit code."""


@dataclass(frozen=True, slots=True)
class Child:
    """A worker's process."""

    pid: int
    end: socket.socket
    """The supervisor's end of the channel to it."""
    ended: asyncio.Future[int]
    """Its exit code, once it has one; ``-n`` if signal n ended it."""


class Nursery:
    """A process that is forked early and does nothing but fork workers.

    A fork copies one thread only. A supervisor has several, and in the child their locks would stay as they were at
    that moment. So who forks must have no other thread; and it must hold in memory what workers are to share:
    TensorFlow's library with all its relocations, and every module.
    """

    def __init__(self, work: Work) -> None:
        """Forks the nursery. To be called before there is a second thread, an event loop or a session.

        Raises UNIMPLEMENTED where the system has no fork.
        """
        if not hasattr(os, "fork"):
            raise ServingError(Code.UNIMPLEMENTED, "Several workers need a system with fork(), such as Linux")
        self._orders, orders = socket.socketpair()
        reports, self._reports = socket.socketpair()
        # What there is now stays: not to be looked at by each worker's garbage collector, which would copy its pages.
        gc.collect()
        gc.freeze()
        sys.stdout.flush()
        sys.stderr.flush()
        if not os.fork():
            self._orders.close()
            self._reports.close()
            _become_nursery(orders, reports, work)
        orders.close()
        reports.close()
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._starts: dict[int, asyncio.Future[tuple[int, asyncio.Future[int]]]] = {}

    async def start(self) -> None:
        """Begins to hear of workers' ends, on the running event loop."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._reports)
        self.closed = asyncio.ensure_future(self._read(reader))
        """Done when the nursery has gone: there will be no more workers."""

    async def fork(self, number: int) -> "Child":
        """Starts worker ``number``; the one before it must have ended. Raises UNAVAILABLE where that cannot be."""
        if self.closed.done():
            raise _no_more()
        ours, theirs = socket.socketpair()
        started = self._starts[number] = asyncio.get_running_loop().create_future()
        with theirs, suppress(OSError):  # it has gone: self.closed will say so
            socket.send_fds(self._orders, [_ORDER.pack(number)], [theirs.fileno()])
        try:
            pid, ended = await started
        except BaseException:
            ours.close()
            raise
        return Child(pid, ours, ended)

    def close(self) -> None:
        """Lets the nursery end. Workers that still run are left to themselves."""
        self._orders.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                number, pid, code = _REPORT.unpack(await reader.readexactly(_REPORT.size))
                if code == _RUNS:
                    ended = self._ends[pid] = asyncio.get_running_loop().create_future()
                    self._starts.pop(number).set_result((pid, ended))
                else:
                    self._ends.pop(pid).set_result(code)
        self._writer.close()
        for started in self._starts.values():
            started.set_exception(_no_more())


def _no_more() -> ServingError:
    return ServingError(Code.UNAVAILABLE, "No worker can be started: the process that starts them has ended")


def _become_nursery(orders: socket.socket, reports: socket.socket, work: Work) -> NoReturn:
    code = 1
    try:
        # A terminal and a service manager signal all processes; the supervisor tells its workers what to do. (To ignore
        # the signals would be inherited by whatever programs a model starts.)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        code = _tend(orders, reports, work)
    except BaseException:
        logger.exception("Process %d failed", os.getpid())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what is further up the stack belongs to the process that was forked


def _tend(orders: socket.socket, reports: socket.socket, work: Work) -> int:
    """Forks as it is told, and reports who has ended, until the supervisor is gone. In a worker, returns its code."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    numbers: dict[int, int] = {}
    with selectors.PollSelector() as selector:
        selector.register(orders, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if woken in ready:
                woken.recv(1 << 12)
                for pid, code in _reap():
                    _report(reports, numbers.pop(pid), pid, code)
            if orders in ready:
                data, descriptors, _, _ = socket.recv_fds(orders, _ORDER.size, 1)
                if not data:
                    return 0
                (number,) = _ORDER.unpack(data)
                with socket.socket(fileno=descriptors[0]) as channel:
                    pid = os.fork()
                    if not pid:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        for end in (orders, reports, woken, wake):
                            end.close()
                        return work(number, channel)
                numbers[pid] = number
                _report(reports, number, pid, _RUNS)


def _reap() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            yield pid, os.waitstatus_to_exitcode(status)


def _report(reports: socket.socket, number: int, pid: int, code: int) -> None:
    with suppress(OSError):  # the supervisor has gone, which is seen by the next order
        reports.sendall(_REPORT.pack(number, pid, code))
