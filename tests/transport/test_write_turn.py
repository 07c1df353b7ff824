"""Answers of one turn of the event loop are written together, and soon."""

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from pyserving.transport import write_turn
from pyserving.transport.write_turn import WriteTurn

Pass = Callable[[float], None]


@pytest.fixture(autouse=True)
def time_passes(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Lets so many seconds pass: on a busy machine there may be many between two lines of a test."""
    now = 7.0

    def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(write_turn, "time", SimpleNamespace(perf_counter=lambda: now))
    return pass_by


def test_what_joins_in_one_turn_is_written_at_its_end_in_order() -> None:
    async def scenario() -> None:
        turn, written = WriteTurn(), list[str]()
        turn.join(partial(written.append, "a"))
        turn.join(partial(written.append, "b"))
        assert written == []
        await asyncio.sleep(0)
        assert written == ["a", "b"]
        turn.join(partial(written.append, "c"))
        await asyncio.sleep(0)
        assert written == ["a", "b", "c"]

    asyncio.run(scenario())


def test_nobody_waits_for_many_others_that_are_served(time_passes: Pass) -> None:
    async def scenario() -> None:
        turn, written = WriteTurn(), list[str]()
        turn.join(partial(written.append, "a"))
        time_passes(0.001)
        turn.join(partial(written.append, "b"))
        assert written == ["a", "b"]
        turn.join(partial(written.append, "c"))
        assert written == ["a", "b"]
        await asyncio.sleep(0)
        assert written == ["a", "b", "c"]
        await asyncio.sleep(0)
        assert written == ["a", "b", "c"]

    asyncio.run(scenario())


def test_who_cannot_write_keeps_nobody_else_from_it() -> None:
    async def scenario() -> None:
        turn, written, told = WriteTurn(), list[str](), list[dict[str, Any]]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        turn.join(partial(int, "no number"))
        turn.join(partial(written.append, "b"))
        await asyncio.sleep(0)
        assert written == ["b"]
        assert [type(context["exception"]) for context in told] == [ValueError]

    asyncio.run(scenario())
