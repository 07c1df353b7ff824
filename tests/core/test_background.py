"""Python code of a load leaves the GIL to the event loop now and then."""

import time

import pytest

from pyserving.core import background
from pyserving.core.background import breathe
from pyserving.core.threads import Threads


def pauses_while_computing(seconds: float, monkeypatch: pytest.MonkeyPatch, *, marked: bool) -> int:
    pauses: list[float] = []
    monkeypatch.setattr("pyserving.core.background.time.sleep", pauses.append)

    def compute() -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            breathe()

    if marked:
        threads = Threads()
        threads.spawn("test", compute)
        assert threads.join(60)
    else:
        compute()
    return len(pauses)


def test_long_work_of_a_load_pauses_but_not_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    count = pauses_while_computing(0.05, monkeypatch, marked=True)
    assert 1 < count <= 0.05 / background._EVERY + 1


def test_work_that_a_request_waits_for_does_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pauses_while_computing(0.01, monkeypatch, marked=False) == 0
