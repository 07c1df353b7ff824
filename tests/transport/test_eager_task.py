import asyncio
from typing import Any

import pytest

from pyserving.transport.eager import EagerTask

Outcome = tuple[Any, BaseException | None]


def test_a_coroutine_that_waits_for_nothing_is_done_at_once() -> None:
    async def answer() -> int:
        return 7

    outcomes: list[Outcome] = []
    assert EagerTask(answer(), lambda *outcome: outcomes.append(outcome)).done
    assert outcomes == [(7, None)]


@pytest.mark.parametrize("too_late", [False, True])
def test_a_cancel_ends_a_wait_even_if_what_it_waits_for_has_just_come(too_late: bool) -> None:
    async def scenario() -> None:
        first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
        outcomes: list[Outcome] = []

        async def wait() -> None:
            await first
            await second

        task = EagerTask(wait(), lambda *outcome: outcomes.append(outcome))
        if too_late:
            first.set_result(None)
        task.cancel()
        while not task.done:
            await asyncio.sleep(0)
        assert [type(error) for _, error in outcomes] == [asyncio.CancelledError]

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_coroutine_may_clean_up_after_a_cancel() -> None:
    async def scenario() -> None:
        outcomes: list[Outcome] = []

        async def wait() -> str:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            return "cleaned"

        task = EagerTask(wait(), lambda *outcome: outcomes.append(outcome))
        task.cancel()
        while not task.done:
            await asyncio.sleep(0)
        assert outcomes == [("cleaned", None)]

    asyncio.run(asyncio.wait_for(scenario(), 10))
