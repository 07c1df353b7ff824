"""Requests that would not fit into memory."""

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.transport import request_memory
from pyserving.transport.request_memory import GROWTH, LARGE, RequestMemory, free_memory


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
    assert free_memory() > 0
    monkeypatch.setattr(request_memory, "free_memory", lambda: request_memory._HEADROOM + GROWTH * LARGE)
    memory = RequestMemory()
    memory.hold(LARGE)
    with pytest.raises(ServingError):
        memory.hold(LARGE)


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name, text in (("max", "1000000\n"), ("current", "900000\n"), ("stat", "anon 1\ninactive_file 50000\n")):
        (tmp_path / name).write_text(text)
    files = tuple(str(tmp_path / name) for name in ("max", "current", "stat"))
    monkeypatch.setattr(request_memory, "_CGROUP_FILES", (files,))
    assert free_memory() == 150_000
    (tmp_path / "max").write_text("max\n")
    assert free_memory() > 150_000
