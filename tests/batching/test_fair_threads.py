"""Threads that models share: each has its turn."""

import threading

import pytest

from pyserving.batching.fair_threads import FairThreads, Share
from pyserving.batching.priority import Priority


class Jobs:
    """Jobs that wait for a gate each, and tell when they began."""

    def __init__(self, threads: FairThreads) -> None:
        self._threads = threads
        self.begun: list[str] = []
        self.dropped: list[str] = []
        self._begun = threading.Condition()
        self._gates: dict[str, threading.Event] = {}

    def submit(self, share: Share, name: str, priority: Priority = Priority.NORMAL) -> None:
        gate = self._gates[name] = threading.Event()

        def job() -> None:
            with self._begun:
                self.begun.append(name)
                self._begun.notify_all()
            assert gate.wait(10)

        self._threads.submit(share, priority, job, lambda: self.dropped.append(name))

    def wait(self, number: int) -> list[str]:
        """What has begun, once it is so many."""
        with self._begun:
            assert self._begun.wait_for(lambda: len(self.begun) >= number, 10), self.begun
            return list(self.begun)

    def end(self, name: str) -> None:
        self._gates[name].set()

    def end_all(self) -> None:
        for gate in self._gates.values():
            gate.set()


def test_a_model_of_which_nothing_runs_waits_for_no_other():
    threads = FairThreads(2)
    jobs, flooded, other = Jobs(threads), Share(), Share()
    for number in range(6):
        jobs.submit(flooded, f"flood {number}")
    jobs.wait(2)
    jobs.submit(other, "other 0")
    jobs.submit(other, "other 1")
    assert jobs.wait(3) == ["flood 0", "flood 1", "other 0"]
    jobs.end("other 0")  # its thread was beside the common ones, which are taken: but nothing of its model runs now
    assert jobs.wait(4)[3] == "other 1"
    jobs.end_all()
    assert len(jobs.wait(8)) == 8
    threads.stop()


def test_who_used_less_goes_first():
    threads = FairThreads(2, reserve=0)
    jobs, flooded, other = Jobs(threads), Share(), Share()
    flooded.used = 1.0
    jobs.submit(flooded, "flood 0")
    jobs.submit(other, "other 0")
    jobs.wait(2)
    for number in (1, 2):
        jobs.submit(flooded, f"flood {number}")
    for number in (1, 2):
        jobs.submit(other, f"other {number}")
    jobs.end("flood 0")
    assert jobs.wait(3)[2] == "other 1"
    jobs.end("other 0")
    assert jobs.wait(4)[3] == "other 2"
    jobs.end_all()
    assert jobs.wait(6)[4:] == ["flood 1", "flood 2"]
    threads.stop()


def test_an_idle_model_has_no_credit():
    threads = FairThreads(1, reserve=0)
    busy, late = Share(), Share()
    jobs = Jobs(threads)
    busy.used = 100.0
    jobs.submit(busy, "busy 0")
    jobs.submit(busy, "busy 1")
    jobs.wait(1)
    jobs.end("busy 0")
    jobs.wait(2)
    jobs.submit(late, "late 0")
    assert late.used >= 100.0
    jobs.end_all()
    jobs.wait(3)
    threads.stop()


def test_priority_goes_before_fairness_and_before_arrival():
    threads = FairThreads(1, reserve=0)
    jobs, one, other = Jobs(threads), Share(), Share()
    jobs.submit(one, "first")
    jobs.submit(one, "low", Priority.LOW)
    jobs.submit(other, "normal")
    jobs.submit(one, "high", Priority.HIGH)
    jobs.wait(1)
    jobs.end_all()
    assert jobs.wait(4) == ["first", "high", "normal", "low"]
    threads.stop()


def test_what_waits_is_dropped_at_the_stop_and_nothing_is_taken_later():
    threads = FairThreads(1, reserve=0)
    jobs, share = Jobs(threads), Share()
    jobs.submit(share, "runs")
    jobs.submit(share, "waits")
    jobs.wait(1)
    threads.stop()
    assert jobs.dropped == ["waits"]
    with pytest.raises(RuntimeError):
        jobs.submit(share, "late")
    jobs.end_all()
    assert jobs.begun == ["runs"]


def test_a_job_that_raises_gives_its_thread_back():
    threads = FairThreads(1, reserve=0)
    share, ran = Share(), threading.Event()

    def fail() -> None:
        raise ValueError

    threads.submit(share, Priority.NORMAL, fail, lambda: None)
    threads.submit(share, Priority.NORMAL, ran.set, lambda: None)
    assert ran.wait(10)
    threads.stop()
