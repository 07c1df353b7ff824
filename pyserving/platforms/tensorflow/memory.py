"""Memory that an unloaded model used goes back to the system.

By default TensorFlow (with oneDNN, on x86) takes memory from the system in growing regions and keeps them for
good. Told to use the system's allocator it frees them, but then glibc maps and unmaps each large tensor of each
run, and the page faults cost batches of pictures a third of their speed. So glibc is told to take everything from
one heap, to give back less eagerly, and is asked for it after an unload: as fast as TensorFlow's regions.
"""

import ctypes
import os

from pyserving.platforms.memory import is_glibc, take_all_from_heaps

_USE_SYSTEM_ALLOCATOR = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8
_TRIM_BYTES = 1 << 30


def prepare_allocator() -> None:
    """To be called before TensorFlow's library is opened. A user's own choice in the environment stays."""
    if not is_glibc() or os.environ.setdefault(_USE_SYSTEM_ALLOCATOR, "1").lower() not in ("1", "true"):
        return
    libc = ctypes.CDLL(None)
    take_all_from_heaps()
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
