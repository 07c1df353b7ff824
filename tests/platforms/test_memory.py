"""Long messages are gathered outside of the heaps, where they leave no holes."""

import ctypes.util
import sys

import pytest
from tensorflow_models import RunPython

from pyserving.platforms.memory import is_glibc, mapped_zeros


def test_they_are_zeros() -> None:
    for size in (0, 10, 64 << 20):
        zeros = mapped_zeros(size)
        assert len(zeros) == size
        assert zeros.count(0) == size


@pytest.mark.skipif(not is_glibc(), reason="other C libraries do as they do")
def test_they_leave_no_hole_though_all_else_comes_from_heaps(run_python: RunPython) -> None:
    """In a process of its own, as glibc is told to for good."""
    code = """
import ctypes
from pyserving.platforms.memory import mapped_zeros, take_all_from_heaps

def is_mapped(block):  # what malloc writes before a block (glibc's malloc/malloc.c: IS_MMAPPED)
    return bool(ctypes.c_size_t.from_address(id(block) - ctypes.sizeof(ctypes.c_size_t)).value & 2)

take_all_from_heaps()
print(is_mapped(bytes(64 << 20)), is_mapped(mapped_zeros(64 << 20)), is_mapped(bytes(64 << 20)))
"""
    assert run_python(code) == "False True False\n"


def test_a_preloaded_allocator_is_not_taken_for_glibc_s(run_python: RunPython, monkeypatch: pytest.MonkeyPatch) -> None:
    jemalloc = ctypes.util.find_library("jemalloc")
    if sys.platform != "linux" or jemalloc is None:
        pytest.skip("needs libjemalloc")
    monkeypatch.setenv("LD_PRELOAD", jemalloc)
    code = """
import threading
from pyserving.platforms.freed_memory import give_memory_back
from pyserving.platforms.memory import claim_heap, has_glibc_heaps, heap_of_thread, is_glibc

heaps = set()
for _ in range(8):
    thread = threading.Thread(target=lambda: (claim_heap(), heaps.add(heap_of_thread())))
    thread.start()
    thread.join()
give_memory_back()
print(is_glibc(), has_glibc_heaps(), heaps)
"""
    assert run_python(code) == "True False {0}\n"
