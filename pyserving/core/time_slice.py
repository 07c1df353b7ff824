"""How soon a thread gets a CPU when it wakes while others compute (Linux 6.12 or later).

Linux lets a thread that wakes go at once before one that computes only if it asks for shorter slices of time
(``sched_setattr(2)``, ``sched_runtime`` of SCHED_OTHER). Else it may wait for the end of the other's slice, up to 3 or
4 ms, even if the other's priority is low. Its share of the CPU stays the same, and no privilege is needed.
"""

import ctypes
import platform
import sys
from typing import ClassVar

_SHORT = 100_000
"""Nanoseconds; the least that Linux takes."""
_USUAL = 0
_SYSTEM_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275), "riscv64": (274, 275)}
"""``sched_setattr`` and ``sched_getattr``, by machine; glibc has had functions for them only since 2.41."""
_SCHED_OTHER = 0


class _Attributes(ctypes.Structure):
    """``struct sched_attr``, in its first version."""

    _fields_: ClassVar = [
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    ]


def wake_at_once() -> None:
    """For the calling thread, and threads that it starts: for those who do little at a time, and often."""
    _set(_SHORT)


def wake_as_usual() -> None:
    """For the calling thread, and threads that it starts, whatever the one that started it had asked for."""
    _set(_USUAL)


def time_slice() -> int:
    """Of the calling thread, in nanoseconds; 0 where the system does not say."""
    attributes = _get()
    return attributes.runtime if attributes else 0


def _get() -> _Attributes | None:
    """None where there is no such call, or another scheduling policy was chosen: that is left alone."""
    if sys.platform != "linux" or platform.machine() not in _SYSTEM_CALLS:
        return None
    _, get = _SYSTEM_CALLS[platform.machine()]
    attributes = _Attributes()
    if _call(get, 0, ctypes.byref(attributes), ctypes.sizeof(attributes), 0):
        return None
    return attributes if attributes.policy == _SCHED_OTHER else None


def _set(nanoseconds: int) -> None:
    attributes = _get()
    if attributes is not None:
        attributes.runtime = nanoseconds
        set_, _ = _SYSTEM_CALLS[platform.machine()]
        _call(set_, 0, ctypes.byref(attributes), 0)  # where it is forbidden it is done without


def _call(number: int, *arguments: object) -> int:
    result: int = ctypes.CDLL(None).syscall(ctypes.c_long(number), *arguments)
    return result
