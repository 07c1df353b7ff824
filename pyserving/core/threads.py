"""Where loads and unloads run: never on the thread that asked for them."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from pyserving.core.background import work_in_background


class Spawner(Protocol):
    """Runs jobs elsewhere. How many run at once is the manager's business."""

    def spawn(self, name: str, job: Callable[[], None]) -> None:
        """Returns at once; the job runs on another thread, called ``name``."""
        ...

    def join(self, timeout: float) -> bool:
        """Waits until no job is running, at most ``timeout`` seconds, and says whether it came to that."""
        ...


class Threads:
    """A new thread for each job.

    Loads are rare beside the cost of a thread (some 100 µs), and so an idle manager has no threads at all. They are
    daemons: a load that hangs does not keep the process from ending.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[threading.Thread] = set()

    def spawn(self, name: str, job: Callable[[], None]) -> None:
        def run() -> None:
            work_in_background()
            try:
                job()
            finally:
                with self._lock:
                    self._running.discard(thread)

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            thread.start()
            self._running.add(thread)

    def join(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        with self._lock:
            running = list(self._running)
        for thread in running:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in running)
