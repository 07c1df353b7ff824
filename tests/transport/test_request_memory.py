"""Requests that would not fit into memory."""

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.transport import request_memory
from pyserving.transport.request_memory import GROWTH, LARGE, RequestMemory


def test_what_does_not_fit_is_refused_and_what_is_released_can_be_had_again() -> None:
    refusals: list[None] = []
    memory = RequestMemory(GROWTH * LARGE * 3, lambda: refusals.append(None))
    memory.hold(2 * LARGE)
    with pytest.raises(ServingError, match="need about") as caught:
        memory.hold(2 * LARGE)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.retry_after == 1.0
    memory.release(2 * LARGE)
    memory.hold(2 * LARGE)
    memory.hold(100)  # small ones are counted, and always let in
    assert memory.held == GROWTH * (2 * LARGE + 100)
    assert len(refusals) == 1


def test_without_a_limit_it_is_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_memory, "free_memory", lambda: request_memory._HEADROOM + GROWTH * LARGE)
    memory = RequestMemory()
    memory.hold(LARGE)
    with pytest.raises(ServingError):
        memory.hold(LARGE)


def test_where_the_system_does_not_say_what_it_has_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_memory, "free_memory", lambda: None)
    RequestMemory().hold(1 << 40)
