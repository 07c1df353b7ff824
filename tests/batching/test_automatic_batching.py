"""Batching without waiting, which nobody asked for: it must not change an answer, nor hold up a lone request."""

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from batching_fakes import Crowd, FakeVersion, ask, doubled, entered, floats, signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyserving.batching import automatic_queue
from pyserving.batching import executor as executor_module
from pyserving.batching.batch_size import BatchSize
from pyserving.batching.executor import EngineExecutor
from pyserving.batching.parameters import Batching, BatchingPolicies
from pyserving.batching.rows import fit
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Array, Signature, TensorSpec

CALLS = 1
"""While so many calls run, what arrives waits."""

AUTOMATIC = BatchingPolicies(Batching.AUTOMATIC)


@pytest.fixture(autouse=True)
def nothing_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "INLINE_SECONDS", 0.0)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known that large batches pay."""

    class Large(BatchSize):
        def add(self, rows: int, seconds: float, present: int, running: int) -> None:
            pass

    def size() -> BatchSize:
        made = Large()
        made.rows = 64
        return made

    monkeypatch.setattr(executor_module, "BatchSize", size)


def values(outcome: list[Array] | BaseException) -> object:
    assert isinstance(outcome, list), outcome
    return outcome[0].tolist()


async def crowded(executor: EngineExecutor, version: FakeVersion, serve: Signature, *xs: Array) -> list[object]:
    """The answers to requests that had to wait at the same time."""
    async with Crowd(executor, version, serve, busy=CALLS) as crowd:
        for x in xs:
            await crowd.add({"x": x}, tuple(serve.outputs))
        return [values(outcome) for outcome in await crowd.answers()]


@pytest.mark.usefixtures("learned")
def test_what_waits_is_joined() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        executor = EngineExecutor(4, AUTOMATIC)
        assert await crowded(executor, version, serve, floats(1, 2), floats(3)) == [[2, 4], [6]]
        assert version.model.sizes() == [3]

    asyncio.run(main())


@pytest.mark.usefixtures("learned")
def test_it_is_told_how_long_each_request_waited() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})
    seen: list[tuple[str, list[float]]] = []

    async def main() -> None:
        executor = EngineExecutor(4, AUTOMATIC, lambda name, micros: seen.append((name, list(micros))))
        await crowded(executor, version, serve, floats(1, 2), floats(3))

    begin = time.monotonic()
    asyncio.run(main())
    most = (time.monotonic() - begin) * 1e6
    assert [(name, len(micros)) for name, micros in seen] == [("engine_threads", 1)] * CALLS + [("engine_threads", 2)]
    assert all(0 <= each <= most for _, micros in seen for each in micros)
    assert seen[-1][1][0] >= seen[-1][1][1], "the first to come waits longest"


@pytest.mark.usefixtures("learned")
def test_outputs_that_cannot_be_split_after_all_are_found_out() -> None:
    def total(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": inputs["x"].sum()}

    serve = signature()
    version = FakeVersion({serve: total})

    async def main() -> None:
        executor = EngineExecutor(4, AUTOMATIC)
        assert await crowded(executor, version, serve, floats(1, 2), floats(3)) == [3, 3]
        assert version.model.sizes() == [3, 2, 1]
        assert await crowded(executor, version, serve, floats(1, 2), floats(3)) == [3, 3]
        assert version.model.sizes() == [2, 1]

    asyncio.run(main())


@pytest.mark.usefixtures("learned")
def test_inputs_of_another_shape_than_the_signature_has_are_not_joined() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        executor = EngineExecutor(4, AUTOMATIC)
        matrix = np.ones((1, 2), np.float32)
        assert await crowded(executor, version, serve, matrix, matrix) == [[[2, 2]], [[2, 2]]]
        assert version.model.sizes() == [1, 1]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("shape", "wanted", "fits"),
    [
        ((3,), (None,), True),
        ((3,), None, True),
        ((3, 2), None, False),
        ((3, 2), (None, 2), True),
        ((3, 1), (None, 2), False),
        ((3, 2), (None, None), True),
        ((3, 2), (None,), False),
    ],
)
def test_a_shape_fits(shape: tuple[int, ...], wanted: tuple[int | None, ...] | None, fits: bool) -> None:
    spec = TensorSpec("x", "x:0", DType.FLOAT, wanted)
    assert fit({"x": np.zeros(shape, np.float32)}, Signature("s", {"x": spec}, {})) is fits


@pytest.mark.parametrize("serve", [signature(row_wise=False), signature(stateless=False, row_wise=False)])
def test_what_the_platform_does_not_know_to_be_row_wise_is_not_joined(serve: Signature) -> None:
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        executor = EngineExecutor(8, AUTOMATIC)
        for _ in range(4):
            assert await crowded(executor, version, serve, floats(1), floats(2)) == [[2], [4]]
        assert version.model.sizes() == [1, 1]

    asyncio.run(main())


def test_it_can_be_switched_off_for_all_or_for_a_model() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})
    own = BatchingPolicies(Batching.AUTOMATIC)
    own.assign(version.model, Batching.OFF)  # type: ignore[arg-type]  # as much of a Model as is needed
    by_name = BatchingPolicies(Batching.AUTOMATIC, never_automatic=["other", "m"])

    async def main(policies: BatchingPolicies) -> None:
        executor = EngineExecutor(8, policies)
        for _ in range(4):
            await crowded(executor, version, serve, floats(1), floats(2))
        assert version.model.sizes() == [1, 1]

    asyncio.run(main(BatchingPolicies(Batching.OFF)))
    asyncio.run(main(own))
    asyncio.run(main(by_name))


def matrices() -> Signature:
    serve = signature()
    return replace(serve, inputs={"x": replace(serve.inputs["x"], shape=(None, None))})


def test_a_request_waits_only_while_others_of_its_kind_run() -> None:
    vectors, anything = signature(), matrices()
    version = FakeVersion({vectors: doubled, anything: doubled})

    async def main() -> None:
        version.model.gate.clear()
        executor = EngineExecutor(8, AUTOMATIC)
        tasks = []
        for shape in ((1,), (1, 2), (1, 3)):
            serve = anything if len(shape) > 1 else vectors
            for _ in range(CALLS):
                x = np.ones(shape, np.float32)
                tasks.append(asyncio.ensure_future(ask(executor, version, serve, {"x": x})))
                await entered(version.model)  # though none has ended
        version.model.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())


@pytest.mark.usefixtures("learned")
def test_the_one_that_fails_fails_alone() -> None:
    def odd(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if (inputs["x"] == 13).any():
            raise invalid_argument("thirteen")
        return doubled(inputs)

    serve = signature()
    version = FakeVersion({serve: odd})

    async def main() -> None:
        executor = EngineExecutor(4, AUTOMATIC)
        async with Crowd(executor, version, serve, busy=CALLS) as crowd:
            for x in (1, 13, 2):
                await crowd.add({"x": floats(x)})
            first, second, third = await crowd.answers()
        assert (values(first), values(third)) == ([2], [4])
        assert str(second) == "INVALID_ARGUMENT: thirteen"
        assert version.model.sizes() == [3, 1, 1, 1]

    asyncio.run(main())


@pytest.mark.usefixtures("learned")
def test_strings_are_joined() -> None:
    def shout(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.array([text.upper() for text in inputs["x"]], object)}

    def texts(*strings: bytes) -> Array:
        return np.array(strings, object)

    serve = signature()
    version = FakeVersion({serve: shout})

    async def main() -> None:
        executor = EngineExecutor(4, AUTOMATIC)
        async with Crowd(executor, version, serve, busy=CALLS, x=texts(b"")) as crowd:
            await crowd.add({"x": texts(b"a", b"b")})
            await crowd.add({"x": texts(b"c")})
            assert [values(outcome) for outcome in await crowd.answers()] == [[b"A", b"B"], [b"C"]]
        assert version.model.sizes() == [3]

    asyncio.run(main())


@pytest.mark.usefixtures("learned")
def test_a_batch_has_no_more_rows_than_pay_but_a_request_is_never_split() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        executor = EngineExecutor(4, AUTOMATIC)
        async with Crowd(executor, version, serve, busy=CALLS) as crowd:
            for size in (40, 100, 30, 20):
                await crowd.add({"x": np.ones(size, np.float32)})
            await crowd.answers()
        assert max(version.model.sizes()) == 100
        assert sum(version.model.sizes()) == 190
        assert all(size <= 64 for size in version.model.sizes() if size != 100)

    asyncio.run(main())


@pytest.mark.usefixtures("learned")
def test_who_waits_is_answered_at_the_deadline_and_who_leaves_is_left_out() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        executor = EngineExecutor(4, AUTOMATIC)
        async with Crowd(executor, version, serve, busy=CALLS) as crowd:
            late = await crowd.add({"x": floats(1)}, deadline=time.monotonic() + 0.02)
            gone = await crowd.add({"x": floats(2)})
            stays = await crowd.add({"x": floats(3)})
            gone.cancel()
            with pytest.raises(ServingError) as caught:
                await late
            assert caught.value.code is Code.DEADLINE_EXCEEDED
            await crowd.answers()
            assert values(await stays) == [6]
        assert [run["x"].tolist() for _, run in version.model.runs] == [[3]]

    asyncio.run(main())
    version.close()
    assert version.drained.wait(5)


def centred(inputs: Mapping[str, Array]) -> dict[str, Array]:
    x = inputs["x"]
    return {"y": x - x.sum() / max(x.size, 1)}


row_counts = st.lists(st.integers(0, 5), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row_counts, st.booleans(), st.integers(0, 2**32 - 1))
def test_under_concurrency_each_answer_is_the_lone_answer(sizes: list[int], row_wise: bool, seed: int) -> None:
    compute = doubled if row_wise else centred
    serve = replace(matrices(), row_wise=row_wise)
    version = FakeVersion({serve: compute})
    random = np.random.default_rng(seed)
    xs = [random.random((size, int(random.integers(1, 3))), np.float32) + 1 for size in sizes]

    async def main() -> None:
        executor = EngineExecutor(3, AUTOMATIC)
        for _ in range(4):
            outcomes = await asyncio.gather(*(ask(executor, version, serve, {"x": x}) for x in xs))
            for x, (y,) in zip(xs, outcomes, strict=True):
                np.testing.assert_allclose(y, compute({"x": x})["y"], rtol=1e-4, atol=1e-5)
        executor.stop()

    asyncio.run(main())
    version.close()
    assert version.drained.wait(5)


def test_a_crowd_is_found_to_be_cheaper_in_large_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """By runs that take as long for many rows as for one, on a clock of their own."""
    seconds = itertools.count(step=2e-3)
    now = [0.0]
    monkeypatch.setattr(automatic_queue, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def slow(inputs: Mapping[str, Array]) -> dict[str, Array]:
        now[0] = next(seconds)
        return doubled(inputs)

    serve = signature()
    version = FakeVersion({serve: slow})

    async def main() -> None:
        executor = EngineExecutor(4, AUTOMATIC)
        for _ in range(200):
            version.model.runs.clear()
            await asyncio.gather(*(ask(executor, version, serve, {"x": floats(1)}) for _ in range(16)))

    asyncio.run(main())
    assert max(version.model.sizes()) >= 8
