"""Whose turn it is first."""

from enum import IntEnum


class Priority(IntEnum):
    """The classes of requests: a lower number goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


def read_priority(text: str, default: Priority) -> Priority:
    """What a client asks for; anything but ``high``, ``normal`` and ``low`` asks for nothing."""
    return _BY_NAME.get(text.strip().lower(), default) if text else default


_BY_NAME = {priority.name.lower(): priority for priority in Priority}
