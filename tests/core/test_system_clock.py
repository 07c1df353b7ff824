import threading

import pytest

from pyserving.core.clock import SystemClock
from pyserving.core.threads import Threads


def test_calls_come_in_the_order_of_their_times_whatever_the_order_of_asking() -> None:
    clock = SystemClock()
    called: list[str] = []
    done = threading.Event()

    def second() -> None:
        called.append("second")
        done.set()

    clock.call_later(0.3, second)
    clock.call_later(0.0, lambda: called.append("first"))
    assert done.wait(60)
    assert called == ["first", "second"]


def test_all_calls_come_on_one_thread() -> None:
    clock = SystemClock()
    callers: list[threading.Thread] = []
    done = threading.Event()
    for delay in (0.3, 0.31, 0.32):  # the first is not to be due before the last is asked for
        clock.call_later(delay, lambda: callers.append(threading.current_thread()))
    clock.call_later(0.33, done.set)
    assert done.wait(60)
    assert len(callers) == 3
    assert len(set(callers)) == 1


def test_a_call_that_is_due_sooner_does_not_wait_for_one_asked_for_before() -> None:
    clock = SystemClock()
    clock.call_later(3600.0, lambda: None)
    for _ in range(5):
        done = threading.Event()
        clock.call_later(0.0, done.set)
        assert done.wait(10)


def test_a_clock_that_fell_idle_goes_on_with_the_next_call() -> None:
    clock = SystemClock()
    for _ in range(2):
        callers: list[threading.Thread] = []
        done = threading.Event()
        clock.call_later(0.0, lambda callers=callers: callers.append(threading.current_thread()))  # type: ignore[misc]
        clock.call_later(0.01, done.set)
        assert done.wait(10)
        callers[0].join(10)
        assert not callers[0].is_alive()


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
