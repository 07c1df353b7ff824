"""Which C library there is, and from which of its heaps a thread allocates."""

import ctypes
import sys

_NON_MAIN_ARENA = 4
_NOT_CACHED = 8192
"""Bytes: a block that no thread keeps in reserve, so that it comes from the heap."""


def is_glibc() -> bool:
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def allocates_from_main_heap() -> bool:
    """Whether glibc serves the calling thread from the heap of the main thread; False for other C libraries.

    glibc gives a thread one of a few heaps ("arenas") when it first allocates. Which one, the header of an allocation
    tells: the third lowest bit of the size before it is set outside of the main heap.
    """
    if not is_glibc():
        return False
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.restype, libc.free.argtypes = None, (ctypes.c_void_p,)
    block = libc.malloc(_NOT_CACHED)
    try:
        return not ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value & _NON_MAIN_ARENA
    finally:
        libc.free(block)
