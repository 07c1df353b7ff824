"""When answers over HTTP/2 are written: once all that was read in this turn of the event loop is served.

HTTP/1.1 connections write at once: with wrk, gathering took a quarter of the throughput (docs/performance.md).
"""

import asyncio
import time
from collections.abc import Callable

_LONGEST = 200e-6
"""Seconds after which the answers that are there are written, though more requests of this turn wait to be served."""


class WriteTurn:
    """Gathers what connections have to write in one turn of the event loop.

    To write to a client that sleeps is dear where it runs on the same machine, for the system call also wakes it: that
    was a fifth of the CPU time of a small request. Once it is awake the next answers cost no such thing, and the next
    requests come together. A client alone waits no longer by that.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []
        self._since = 0.0

    def join(self, write: Callable[[], None]) -> None:
        """``write`` is called soon, and once. To be called inside the event loop."""
        waiting = self._waiting
        waiting.append(write)
        if len(waiting) == 1:
            self._since = time.perf_counter()
            asyncio.get_running_loop().call_soon(self._write)
        elif time.perf_counter() - self._since > _LONGEST:
            self._write()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            try:
                write()
            except Exception as error:
                context = {"message": "An answer could not be written", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
