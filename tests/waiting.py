"""Tests wait for what happens, not for a time to pass: how slow a machine is says nothing."""

import time
from collections.abc import Callable

LIMIT = 120.0
"""Seconds after which a test that waits has failed. Generous: where it is reached, there is nothing to wait for."""


def wait_until(condition: Callable[[], bool], what: str | Callable[[], str] = "") -> None:
    """Returns once ``condition`` holds. ``what``: the words of the failure, or what tells them then."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what() if callable(what) else what}"
        time.sleep(0.01)
