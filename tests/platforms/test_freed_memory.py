"""Freed memory goes back to the system without the lock of its heap, and memory in use stays as it is."""

import ctypes
import mmap

import pytest

from pyserving.platforms.freed_memory import _drop_free_pages
from pyserving.platforms.memory import has_glibc_heaps
from pyserving.platforms.stepping_back import beside_main_heap

SIZE = 100 << 10
"""Bytes: glibc takes blocks of this size from the heap."""
COUNT = 640
KEPT = range(0, COUNT, 8)


def resident(blocks: list[int]) -> int:
    """Of the pages inside of these blocks."""
    libc = ctypes.CDLL(None)
    found = 0
    for block in blocks:
        start = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
        pages = (block + SIZE - start) // mmap.PAGESIZE
        in_memory = ctypes.create_string_buffer(pages)
        libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(pages * mmap.PAGESIZE), in_memory)
        found += in_memory.raw.count(b"\1")
    return found


@pytest.mark.skipif(not has_glibc_heaps(), reason="other C libraries have other heaps")
def test_pages_of_free_blocks_are_dropped_and_no_others() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.restype, libc.free.argtypes = None, (ctypes.c_void_p,)

    def fill_and_drop() -> tuple[int, int, list[bytes]]:
        blocks = [libc.malloc(SIZE) for _ in range(COUNT)]
        for number, block in enumerate(blocks):
            ctypes.memset(block, number % 251 + 1, SIZE)
        freed = [block for number, block in enumerate(blocks) if number not in KEPT]
        for block in freed:
            libc.free(block)
        before = resident(freed)
        _drop_free_pages()
        after = resident(freed)
        kept = [ctypes.string_at(blocks[number], SIZE) for number in KEPT]
        for number in KEPT:
            libc.free(blocks[number])
        return before, after, kept

    before, after, kept = beside_main_heap(fill_and_drop)
    assert before * mmap.PAGESIZE > 0.9 * SIZE * (COUNT - len(KEPT))
    assert after < before / 2  # small blocks of others may lie between, and stay
    assert kept == [bytes([number % 251 + 1]) * SIZE for number in KEPT]
