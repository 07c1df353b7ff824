"""The memory that this process may take (Linux)."""

import os
import sys

_FULL = 0.9
_FULL_ENOUGH = 0.5


class MemoryLimit:
    """Allocations beyond it fail: in Python with MemoryError.

    What counts is private memory that can be written to (RLIMIT_DATA, see setrlimit(2)), stacks of threads included.
    """

    def __init__(self, more: int) -> None:
        """``more``: bytes beyond what the process has now."""
        self._base = _data_size()
        self._more = more
        if sys.platform == "linux":
            import resource

            limit = self._base + more
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def worn_out(self, *, failed: bool) -> bool:
        """So little is left that the process had better start anew: the less where a run has just ``failed`` for
        want of memory, and did not leave much when it ended."""
        return _data_size() - self._base > (_FULL_ENOUGH if failed else _FULL) * self._more


def _data_size() -> int:
    """Bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
