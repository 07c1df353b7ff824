"""Where engine calls run, and what becomes of those whose time is over."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from pyserving.batching.cost import CostEstimate
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.handle import ServableHandle, ServedVersion
from pyserving.core.servable import ServableId
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import INLINE_SECONDS, Signature, TensorSpec

SPEC = TensorSpec("x", "x:0", DType.FLOAT, (None,))
X = {"x": np.ones(1, np.float32)}


class FakeModel:
    """Doubles, after ``gate`` opens; remembers how it was called."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.inline: list[bool] = []
        self.timeouts: list[float | None] = []
        self.error: BaseException | None = None

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,
    ) -> list[np.ndarray]:
        self.inline.append(inline)
        self.timeouts.append(timeout)
        self.entered.set()
        assert self.gate.wait(10)
        if self.error:
            raise self.error
        return [inputs["x"] * 2 for _ in outputs]


class Version:
    """A fake model under a real handle."""

    def __init__(self) -> None:
        self.model = FakeModel()
        self.signature = Signature("serving_default", {"x": SPEC}, {"y": SPEC})
        self.drained = threading.Event()
        self._served = ServedVersion(ServableId("m", 1), self.model, self.drained.set)

    def hold(self) -> ServableHandle:
        handle = self._served.hold()
        assert handle is not None
        return handle

    def close(self) -> None:
        if self._served.close():
            self.drained.set()


async def run(executor: EngineExecutor, version: Version, deadline: float | None = None) -> list[np.ndarray]:
    with version.hold() as handle:
        return await executor.run(handle, version.signature, X, ["y"], deadline)


@pytest.fixture
def executor() -> EngineExecutor:
    return EngineExecutor(2)


def test_a_cheap_signature_comes_to_run_inline(executor: EngineExecutor) -> None:
    version = Version()

    async def main() -> None:
        for _ in range(200):
            (y,) = await run(executor, version)
            assert y.tolist() == [2.0]

    asyncio.run(main())
    assert version.model.inline[0] is False, "what is not known yet must not hold up the loop"
    assert version.model.inline[-1] is True


def test_a_signature_whose_cost_depends_on_values_never_runs_inline(executor: EngineExecutor) -> None:
    version = Version()
    version.signature = replace(version.signature, steady=False)

    async def main() -> None:
        for _ in range(50):
            await run(executor, version)

    asyncio.run(main())
    assert version.model.inline == [False] * 50


def test_an_error_is_raised_where_it_is_awaited_and_the_handle_is_free(executor: EngineExecutor) -> None:
    version = Version()
    version.model.error = invalid_argument("no")
    with pytest.raises(ServingError, match="no"):
        asyncio.run(run(executor, version))
    version.close()
    assert version.drained.wait(5)


def test_the_client_is_answered_at_its_deadline_and_the_run_keeps_its_handle(executor: EngineExecutor) -> None:
    version = Version()
    version.model.gate.clear()

    async def main() -> None:
        with pytest.raises(ServingError) as caught:
            await run(executor, version, time.monotonic() + 0.5)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        version.close()
        assert not version.drained.is_set(), "the engine still works on it"
        version.model.gate.set()
        assert await asyncio.to_thread(version.drained.wait, 5)

    asyncio.run(main())
    (timeout,) = version.model.timeouts
    assert timeout is not None
    assert 0 < timeout <= 0.5


def test_a_request_whose_deadline_has_passed_is_not_run(executor: EngineExecutor) -> None:
    version = Version()
    with pytest.raises(ServingError) as caught:
        asyncio.run(run(executor, version, time.monotonic() - 1))
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    version.close()
    assert version.drained.wait(5)
    assert version.model.inline == []


async def call(executor: EngineExecutor, version: Version, deadline: float | None = None) -> list[np.ndarray]:
    model = version.model
    with version.hold() as handle:
        return await executor.call(
            handle, lambda timeout: model.run(version.signature, X, ["y"], timeout=timeout), deadline
        )


def test_a_call_that_is_no_run_of_a_signature(executor: EngineExecutor) -> None:
    version = Version()
    (y,) = asyncio.run(call(executor, version))
    assert y.tolist() == [2.0]
    version.model.error = invalid_argument("no")
    with pytest.raises(ServingError, match="no"):
        asyncio.run(call(executor, version))
    assert version.model.timeouts == [None, None]
    version.close()
    assert version.drained.wait(5)


def test_such_a_call_is_answered_at_its_deadline_and_keeps_its_handle(executor: EngineExecutor) -> None:
    version = Version()
    version.model.gate.clear()

    async def main() -> None:
        with pytest.raises(ServingError) as caught:
            await call(executor, version, time.monotonic() + 0.5)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        version.close()
        assert not version.drained.is_set(), "the engine still works on it"
        version.model.gate.set()
        assert await asyncio.to_thread(version.drained.wait, 5)

    asyncio.run(main())


def test_such_a_call_is_refused_once_the_executor_has_stopped() -> None:
    executor, version = EngineExecutor(1), Version()
    executor.stop()
    with pytest.raises(ServingError) as caught:
        asyncio.run(call(executor, version))
    assert caught.value.code is Code.UNAVAILABLE
    version.close()
    assert version.drained.wait(5)


def test_what_waits_for_a_thread_is_not_run_once_nobody_waits_for_it() -> None:
    executor = EngineExecutor(1)
    busy, queued = Version(), Version()
    busy.model.gate.clear()

    async def main() -> None:
        first = asyncio.ensure_future(run(executor, busy))
        assert await asyncio.to_thread(busy.model.entered.wait, 5)
        second = asyncio.ensure_future(run(executor, queued))
        await asyncio.sleep(0)
        second.cancel()
        busy.model.gate.set()
        await first
        queued.close()
        assert await asyncio.to_thread(queued.drained.wait, 5)

    asyncio.run(main())
    assert queued.model.inline == []


def test_after_stop_nothing_more_is_taken(executor: EngineExecutor) -> None:
    version = Version()
    executor.stop()
    with pytest.raises(ServingError) as caught:
        asyncio.run(run(executor, version))
    assert caught.value.code is Code.UNAVAILABLE
    version.close()
    assert version.drained.is_set()


def test_a_stray_sample_does_not_move_an_estimate_far_but_a_lasting_change_does() -> None:
    cost = CostEstimate()
    for _ in range(50):
        cost.add(50e-6)
    cost.add(1.0)
    assert cost.inline
    for _ in range(20):
        cost.add(1e-3)
    assert not cost.inline


def test_a_signature_that_runs_inline_goes_on_to_while_all_runs_are_slower() -> None:
    cost = CostEstimate()
    for _ in range(50):
        cost.add(INLINE_SECONDS * 1.5)
    assert not cost.inline
    for _ in range(50):
        cost.add(INLINE_SECONDS * 0.5)
    assert cost.inline
    for _ in range(200):
        cost.add(INLINE_SECONDS * 1.2)
    assert cost.inline
    for _ in range(50):
        cost.add(INLINE_SECONDS * 3)
    assert not cost.inline


def test_the_slow_first_runs_of_a_graph_do_not_count() -> None:
    cost = CostEstimate()
    for seconds in (0.5, 0.02, 40e-6):
        cost.add(seconds)
    assert cost.seconds == 40e-6


def test_a_signature_that_is_slow_now_and_then_does_not_stay_inline() -> None:
    cost = CostEstimate()
    for _ in range(50):
        cost.add(50e-6)
    for _ in range(20):
        for seconds in (50e-6, 50e-6, 50e-6, 50e-6, 20e-3):
            cost.add(seconds)
    assert not cost.inline
