"""What the C library keeps of freed memory."""

import ctypes
import sys


def give_memory_back() -> None:
    """Returns freed memory to the system, for a large model was unloaded; glibc would keep it for later."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
