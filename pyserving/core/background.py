"""Work that can wait while requests cannot: loads and warmups are marked, for engines to see."""

import threading

_this_thread = threading.local()


def work_in_background() -> None:
    """Marks the calling thread: no request waits for what it does, from now to its end."""
    _this_thread.in_background = True


def in_background() -> bool:
    """Whether the calling thread is marked."""
    return getattr(_this_thread, "in_background", False)
