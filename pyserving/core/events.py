"""Tells whoever listens of every state that a version enters."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from pyserving.core.state import ServableState

Listener = Callable[[ServableState], None]

_log = logging.getLogger("pyserving.core")


class EventBus:
    """Carries ServableStates to listeners, each event to all of them before the next, in the order of posting.

    Posting and delivering are apart so that a publisher can post under its own lock, which fixes the order, and
    deliver after it let go: a listener may then call the publisher back without a deadlock.
    """

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._posted: deque[ServableState] = deque()
        self._delivering = threading.Lock()

    def subscribe(self, listener: Listener) -> None:
        """Calls ``listener`` with every later event, on whichever thread delivers it. One that raises is logged."""
        self._listeners += (listener,)

    def post(self, event: ServableState) -> None:
        """Puts the event in line for ``deliver``."""
        self._posted.append(event)

    def deliver(self) -> None:
        """Calls the listeners with what was posted. Where another thread is at it, that one delivers ours too."""
        # Looked at again after the lock is free: an event posted while we held it had nobody else to deliver it.
        while self._posted and self._delivering.acquire(blocking=False):
            try:
                while self._posted:
                    self._tell(self._posted.popleft())
            finally:
                self._delivering.release()

    def _tell(self, event: ServableState) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _log.exception("A listener failed on %s %s", event.id, event.state.name)
