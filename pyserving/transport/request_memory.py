"""Memory for requests: one that would not fit is refused before it is read, not killed with the server."""

import math
import time
from collections.abc import Callable

from pyserving.core.errors import Code, ServingError
from pyserving.core.free_memory import free_memory

LARGE = 256 * 1024
"""Bytes of a body or message from which on it is asked whether it fits: smaller ones are held in check by limits on
their number."""
GROWTH = 3
"""What a request takes at most while it is answered, for each byte of it: itself, its tensors, and the answer. More
than what requests of 100 MB were seen to take, long arrays of JSON and ``tensor_content`` (docs/performance.md); an
answer that is much larger than its request is not foreseen."""
_HEADROOM = 64 << 20
"""Bytes that are left to everything else."""
_SECONDS = 0.05
"""So long a reading of the free memory holds."""


class RequestMemory:
    """Keeps account of what large requests take. Used on one event loop."""

    def __init__(self, limit: int | None = None, refused: Callable[[], None] | None = None) -> None:
        """``limit``: bytes that all large requests may take; None: what the machine, or the container, has free.

        ``refused`` is called for each refusal.
        """
        self._limit = limit
        self._refused = refused or (lambda: None)
        self.held = 0
        """Bytes that are promised to requests."""
        self._free = 0.0
        self._read = float("-inf")

    def hold(self, size: int) -> None:
        """Promises what a request of ``size`` bytes takes, until it is released. Raises RESOURCE_EXHAUSTED."""
        need = GROWTH * size
        if size >= LARGE:
            # Some of what is held is in use already, and so not free either: counted twice it errs on the safe side.
            room = (self._machine_has() if self._limit is None else self._limit) - self.held
            if need > room:
                self._refused()
                error = ServingError(
                    Code.RESOURCE_EXHAUSTED,
                    f"The request was refused: its {size} bytes need about {need} bytes of memory, "
                    f"{max(room, 0)} are free",
                )
                error.retry_after = 1.0
                raise error
        self.held += need

    def release(self, size: int) -> None:
        """The opposite."""
        self.held -= GROWTH * size

    def _machine_has(self) -> float:
        now = time.monotonic()
        if now - self._read > _SECONDS:
            self._read = now
            free = free_memory()
            self._free = math.inf if free is None else free - _HEADROOM
        return self._free
