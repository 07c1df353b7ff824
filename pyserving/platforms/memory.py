"""Which C library there is, where it takes memory from, and from which of its heaps a thread allocates."""

import ctypes
import functools
import os
import sys
import threading

# A parameter of mallopt(3), and its default.
_M_MMAP_MAX = -4
_DEFAULT_MMAP_MAX = 65536
_MAPPED = 32 << 20
"""Bytes from which on glibc takes no block from a heap where it may map memory, whatever its threshold has become."""

_NON_MAIN_ARENA = 4
_NOT_CACHED = 8192
"""Bytes: a block that no thread keeps in reserve, so that it comes from the heap."""
_HEAP_BYTES = 64 << 20
"""Parts of a heap other than the main one begin at multiples of this, each with the address of what is one for all."""

_claimed: set[int] = set()


def is_glibc() -> bool:
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


@functools.cache
def has_glibc_heaps() -> bool:
    """Whether ``malloc`` is glibc's own: an allocator that is preloaded, such as jemalloc, has other heaps."""
    return is_glibc() and _address_of_malloc(None) == _address_of_malloc("libc.so.6")


def _address_of_malloc(library: str | None) -> int | None:
    return ctypes.cast(ctypes.CDLL(library).malloc, ctypes.c_void_p).value


class _Mappings:
    """Whether blocks of any size come from the heaps."""

    def __init__(self) -> None:
        self.off = False
        self.lock = threading.Lock()


_mappings = _Mappings()


def take_all_from_heaps() -> None:
    """From now on glibc maps no memory for large blocks; but see ``mapped_zeros``. Other C libraries do as they do."""
    if is_glibc():
        with _mappings.lock:
            _mappings.off = True
            ctypes.CDLL(None).mallopt(_M_MMAP_MAX, 0)


def mapped_zeros(size: int) -> bytes:
    """So many zero bytes. Where they are many they lie outside of the heaps, so that what they took is the system's
    again as soon as they are freed: a hole in one heap is of no use to a thread that allocates from another.
    """
    if size < _MAPPED or not _mappings.off:
        return bytes(size)
    libc = ctypes.CDLL(None)
    with _mappings.lock:  # another thread may get such a block meanwhile: no harm is done
        libc.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
        try:
            return bytes(size)
        finally:
            libc.mallopt(_M_MMAP_MAX, 0)


def heap_of_thread() -> int:
    """Which heap glibc serves the calling thread from: 0 for that of the main thread, and for other allocators.

    glibc gives a thread one of a few heaps ("arenas") when it first allocates. Which one, the header of an allocation
    tells: the third lowest bit of the size before it is set outside of the main heap.
    """
    if not has_glibc_heaps():
        return 0
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.restype, libc.free.argtypes = None, (ctypes.c_void_p,)
    block: int = libc.malloc(_NOT_CACHED)
    try:
        if not ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value & _NON_MAIN_ARENA:
            return 0
        part = block // _HEAP_BYTES * _HEAP_BYTES
        # With huge pages parts have another size, and what begins here need not be memory that can be read.
        of_huge_pages = "malloc.hugetlb" in os.environ.get("GLIBC_TUNABLES", "")
        return part if of_huge_pages else ctypes.c_size_t.from_address(part).value
    finally:
        libc.free(block)


def claim_heap() -> None:
    """Says that the calling thread, which stays, is not to wait for the lock of its heap behind a load."""
    _claimed.add(heap_of_thread())


def is_claimed(heap: int) -> bool:
    """Whether threads that answer requests have said so of this heap; of the main one that goes without saying."""
    return not heap or heap in _claimed
