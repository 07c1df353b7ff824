"""Who answers requests asks for short slices of time; who loads does not, though it was started by the other."""

import platform
import sys
import threading

import pytest

from pyserving.core.background import work_in_background
from pyserving.core.time_slice import time_slice, wake_as_usual, wake_at_once


def _kernel() -> tuple[int, int]:
    major, minor, *_ = platform.release().split(".")
    return int(major), int(minor) if minor.isdecimal() else 0


pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or _kernel() < (6, 12) or not time_slice(), reason="needs Linux 6.12, and its permission"
)


def on_thread(*calls: object) -> list[int]:
    """The thread's slice after each of the calls, on one new thread."""
    found: list[int] = []

    def run() -> None:
        for call in calls:
            assert callable(call)
            call()
            found.append(time_slice())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


@pytest.fixture
def usual() -> int:
    """Not this thread's own: a server that it ran for another test may have asked for short ones."""
    (found,) = on_thread(wake_as_usual)
    assert found > 100_000
    return found


def test_a_thread_asks_for_short_slices_and_for_the_usual_ones_again(usual: int) -> None:
    mine = time_slice()
    assert on_thread(wake_at_once, wake_as_usual) == [100_000, usual]
    assert time_slice() == mine


def test_work_in_the_background_has_the_usual_slices_though_its_thread_was_started_by_one_with_short_ones(
    usual: int,
) -> None:
    of_children: list[list[int]] = []
    on_thread(wake_at_once, lambda: of_children.append(on_thread(lambda: None, work_in_background)))
    assert of_children == [[100_000, usual]]
