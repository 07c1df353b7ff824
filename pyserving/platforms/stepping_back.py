"""Runs what a load computes behind the threads that answer requests: at low priority, and on a heap of its own."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from pyserving.core.background import in_background
from pyserving.platforms.memory import has_glibc_heaps, heap_of_thread, is_claimed

T = TypeVar("T")

NICENESS = 5
"""Added to the process's own. It is enough for a thread that wakes up to go first, and beside a busy thread such work
still gets a quarter of a CPU: on a machine without an idle moment a load at 10 takes minutes, at 19 hours."""

_TRIES = 16
"""Threads that are started to find one with a heap that no thread has claimed which answers requests, ..."""
_LAST_TRIES = 4
"""... and the last of them one with a heap other than the main one, at least."""


def stepped_back(call: Callable[..., T], *arguments: object) -> T:
    """What ``call(*arguments)`` returns or raises. On a thread in the background (``core/background.py``), on Linux, it
    is run at low priority.

    For long calls that drop the GIL: who has low priority and is put aside with a lock in its hands keeps all others
    waiting. That goes for the lock of a heap, too, and even who is not put aside has it again before another thread has
    woken, 20 ms long where much is allocated. So a thread is looked for that glibc gave another heap than the event
    loop, whose is the main one, and than threads that answer requests (``claim_heap``).

    The thread ends with the call, for without privileges one that stepped back cannot come forward again. Threads that
    the call starts have its priority for ever.
    """
    if not in_background() or sys.platform != "linux":
        return call(*arguments)
    return _aside(call, arguments, NICENESS)


def beside_main_heap(call: Callable[..., T], *arguments: object) -> T:
    """What ``call(*arguments)`` returns or raises, run at the usual priority on a thread with the heap that
    ``stepped_back`` found, or one that is as good."""
    return _aside(call, arguments, 0)


def _aside(call: Callable[..., T], arguments: tuple[object, ...], niceness: int) -> T:
    for tries_left in reversed(range(_TRIES)):
        work = _Work(call, arguments, niceness, _unfit_heaps(tries_left))
        # A daemon: a load that hangs does not keep the process from ending.
        thread = threading.Thread(target=work, name=f"{threading.current_thread().name}-aside", daemon=True)
        thread.start()
        thread.join()
        if work.error is not None:
            raise work.error
        if work.results:
            break
    result: T = work.results.pop()
    return result


def _unfit_heaps(tries_left: int) -> Callable[[int], bool]:
    """Tells heaps that are not to be used. The fewer tries are left, the less may be asked for."""
    if not tries_left or not has_glibc_heaps():
        return lambda _: False
    return is_claimed if tries_left >= _LAST_TRIES else lambda heap: not heap


class _Work:
    def __init__(
        self,
        call: Callable[..., object],
        arguments: tuple[object, ...],
        niceness: int,
        is_unfit: Callable[[int], bool],
    ) -> None:
        """``is_unfit``: of a heap, whether it is not to be used."""
        self._call, self._arguments = call, arguments
        self._niceness = niceness
        self._is_unfit = is_unfit
        self.results: list[Any] = []
        """What the call returned; empty where it was not made."""
        self.error: BaseException | None = None

    def __call__(self) -> None:
        if self._is_unfit(heap_of_thread()):
            return
        try:
            # On Linux threads have priorities of their own. Where even this is forbidden it is done without.
            thread = threading.get_native_id()
            if self._niceness:
                with suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + self._niceness)
            self.results.append(self._call(*self._arguments))
        except BaseException as error:
            self.error = error
