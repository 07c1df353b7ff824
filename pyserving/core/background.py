"""Work that can wait while requests cannot: loads and warmups are marked, for engines to see."""

import threading
import time

from pyserving.core.time_slice import wake_as_usual

_EVERY = 200e-6
"""Seconds between two breaths: about what a request waits for the GIL at most."""
_PAUSE = 50e-6
"""Seconds; with what Linux adds to a sleep, a small request is answered meanwhile."""


class _Thread(threading.local):
    in_background = False
    breathed = 0.0


_this_thread = _Thread()


def work_in_background() -> None:
    """Marks the calling thread: no request waits for what it does, from now to its end."""
    _this_thread.in_background = True
    wake_as_usual()  # though a thread that answers requests has started it


def in_background() -> bool:
    """Whether the calling thread is marked."""
    return _this_thread.in_background


def breathe() -> None:
    """To be called often by long work in Python. On a marked thread it lets the event loop have the GIL now and then.

    The event loop lets go of the GIL several times for a request. Each time, a thread that only computes would take it,
    and keep it for the switch interval; a shorter interval would hold for the event loop, too, and stop it in the
    middle of a run.
    """
    thread = _this_thread
    if thread.in_background and time.perf_counter() - thread.breathed > _EVERY:
        time.sleep(_PAUSE)
        thread.breathed = time.perf_counter()
