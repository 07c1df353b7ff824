"""Threads that ask a server for as long as a ``with`` statement lasts."""

import threading
from collections.abc import Callable, Iterable
from typing import Self

from waiting import LIMIT


class ClientThreads:
    def __init__(self, asks: Iterable[Callable[[], None]]) -> None:
        """Each of ``asks`` is run by a thread of its own, and is to end once ``_stopped`` is set."""
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=ask, daemon=True) for ask in asks]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
