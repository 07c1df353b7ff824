"""Long work on a thread lets the event loop have its turn."""

import asyncio
import threading
import time

_EVERY = 2e-3
"""Seconds between two breaths."""
_NEW = 50e-3
"""Seconds since the last call after which this is new work, not yet out of breath."""
_PAUSE = 50e-6


class _Breath(threading.local):
    last = 0.0
    called = 0.0


_breath = _Breath()


def breathe() -> None:
    """To be called often by work that would hold the GIL for long. On the event loop's own thread it does nothing.

    A thread that waits for the GIL asks for it only after the switch interval (5 ms), and a C function does not even
    hear that. One that lets go and takes it again at once wins against whoever has to be woken up first. So the work
    sleeps for a moment every two milliseconds: the event loop then has the GIL until it has nothing to do.
    """
    breath = _breath
    now = time.monotonic()
    if now - breath.called > _NEW:
        breath.last = now
    breath.called = now
    if now - breath.last < _EVERY:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        time.sleep(_PAUSE)
        breath.last = time.monotonic()
