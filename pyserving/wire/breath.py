"""Long work on a thread lets the event loop have its turn."""

import asyncio
import threading
import time

_EVERY = 1e-3
"""Seconds between two breaths."""
_PAUSE = 50e-6


class _LastBreath(threading.local):
    time = 0.0


_last = _LastBreath()


def breathe() -> None:
    """To be called often by work that would hold the GIL for long. On the event loop's own thread it does nothing.

    A thread that waits for the GIL asks for it only after the switch interval (5 ms), and a C function does not even
    hear that. One that lets go and takes it again at once wins against whoever has to be woken up first. So the work
    sleeps for a moment every millisecond: the event loop then has the GIL until it has nothing to do.
    """
    now = time.monotonic()
    if now - _last.time < _EVERY:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        time.sleep(_PAUSE)
        _last.time = time.monotonic()
