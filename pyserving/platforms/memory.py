"""What the C library keeps of freed memory."""

import ctypes
import sys


def is_glibc() -> bool:
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def give_memory_back() -> None:
    """Returns freed memory to the system, for a large model was unloaded; glibc would keep it for later."""
    if is_glibc():
        ctypes.CDLL(None).malloc_trim(0)
