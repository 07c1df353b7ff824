"""That a model is to have a process of its own, and what the process may take."""

from dataclasses import dataclass

LOAD_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Isolation:
    """See ``ProcessSpec``."""

    load_time_limit: float = LOAD_SECONDS
    memory_limit: int | None = None
    time_limit: float | None = None
