"""Python code of a load leaves the GIL to the event loop now and then."""

from types import SimpleNamespace

import pytest

from pyserving.core import background
from pyserving.core.background import breathe
from pyserving.core.threads import Threads


def pauses_while_computing(seconds: float, monkeypatch: pytest.MonkeyPatch, *, marked: bool) -> int:
    """By a clock of its own: a busy machine may stop a thread for as long."""
    pauses: list[float] = []
    now = 7.0
    monkeypatch.setattr(background, "time", SimpleNamespace(perf_counter=lambda: now, sleep=pauses.append))

    def compute() -> None:
        nonlocal now
        end = now + seconds
        while now < end:
            breathe()
            now += background._EVERY / 10

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
