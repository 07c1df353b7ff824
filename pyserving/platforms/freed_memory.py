"""Gives freed memory back to the system, for a large model was unloaded; glibc would keep it for later."""

import ctypes
import mmap

from pyserving.platforms.memory import has_glibc_heaps
from pyserving.platforms.stepping_back import beside_main_heap

_BLOCKS = (4 << 20, 512 << 10, 64 << 10)
"""Bytes of what is taken out of a heap at a time, large ones first. Smaller ones would be many."""
_MISSES = 3
"""Blocks of a size without memory after which no more are looked for: the heap has given all back, or grows."""


def give_memory_back() -> None:
    """Returns once it is done, with allocators other than glibc's at once.

    ``malloc_trim`` holds the lock of a heap until all its free pages are the system's, 30 ms for 330 MB, and the event
    loop now and then frees a block of the heap that a model was loaded to. So most of it is done without the lock.
    """
    if has_glibc_heaps():
        beside_main_heap(_drop_free_pages)
        ctypes.CDLL(None).malloc_trim(0)


def _drop_free_pages() -> None:
    """Of the calling thread's heap: takes free blocks, as anybody may, drops their pages and frees them again."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.restype, libc.free.argtypes = None, (ctypes.c_void_p,)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    blocks = []
    for size in _BLOCKS:
        in_memory = ctypes.create_string_buffer(size // mmap.PAGESIZE)
        misses = 0
        while misses < _MISSES:
            block = libc.malloc(size)
            if block is None:
                break
            blocks.append(block)
            start = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
            length = (block + size - start) // mmap.PAGESIZE * mmap.PAGESIZE
            libc.mincore(start, length, in_memory)
            if in_memory.raw.count(b"\1") * 2 * mmap.PAGESIZE < length:
                misses += 1
            else:
                libc.madvise(start, length, mmap.MADV_DONTNEED)
    for block in blocks:
        libc.free(block)
