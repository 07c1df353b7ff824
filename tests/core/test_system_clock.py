import threading

import pytest

from pyserving.core.clock import SystemClock
from pyserving.core.threads import Threads


def test_calls_come_in_the_order_of_their_times_whatever_the_order_of_asking() -> None:
    clock = SystemClock()
    called: list[str] = []
    done = threading.Event()
    clock.call_later(0.04, done.set)
    clock.call_later(0.02, lambda: called.append("second"))
    clock.call_later(0.0, lambda: called.append("first"))
    assert done.wait(60)
    assert called == ["first", "second"]


def test_a_cancelled_call_does_not_come() -> None:
    clock = SystemClock()
    called: list[str] = []
    done = threading.Event()
    clock.call_later(0.01, lambda: called.append("cancelled")).cancel()
    clock.call_later(0.02, done.set)
    assert done.wait(60)
    assert called == []


def test_a_call_that_raises_does_not_stop_the_next(caplog: pytest.LogCaptureFixture) -> None:
    clock = SystemClock()
    done = threading.Event()
    clock.call_later(0.0, lambda: [][0])
    clock.call_later(0.01, done.set)
    assert done.wait(60)
    assert "IndexError" in caplog.text


def test_threads_join_waits_for_jobs() -> None:
    threads = Threads()
    go_on = threading.Event()
    done: list[str] = []

    def job() -> None:
        assert go_on.wait(60)
        done.append(threading.current_thread().name)

    threads.spawn("a job", job)
    assert not threads.join(0)
    go_on.set()
    assert threads.join(60)
    assert done == ["a job"]
