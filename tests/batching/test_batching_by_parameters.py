"""Batching as TensorFlow Serving's parameters ask for it."""

import asyncio
import gc
import time
import weakref
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from batching_fakes import Crowd, FakeVersion, ask, doubled, entered, floats, signature

from pyserving.batching.executor import EngineExecutor
from pyserving.batching.parameters import BatchingParameters, BatchingPolicies
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Array, Signature

FOUR = BatchingParameters(max_batch_size=4, max_execution_batch_size=4, num_batch_threads=1)
SPLITTING = BatchingParameters(
    max_batch_size=100,
    max_execution_batch_size=4,
    num_batch_threads=1,
    enable_large_batch_splitting=True,
)


def batching(parameters: BatchingParameters) -> EngineExecutor:
    return EngineExecutor(4, BatchingPolicies(parameters))


def values(outcome: list[Array] | BaseException) -> object:
    assert isinstance(outcome, list), outcome
    return outcome[0].tolist()


def error(outcome: list[Array] | BaseException) -> ServingError:
    assert isinstance(outcome, ServingError), outcome
    return outcome


def test_what_waits_is_joined_up_to_the_size_of_a_batch_in_the_order_it_came() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        async with Crowd(batching(FOUR), version, serve, busy=1) as crowd:
            for x in (floats(1, 2), floats(3), floats(4, 5), floats(6)):
                await crowd.add({"x": x})
            outcomes = await crowd.answers()
        assert [values(outcome) for outcome in outcomes] == [[2, 4], [6], [8, 10], [12]]

    asyncio.run(main())
    assert [run["x"].tolist() for _, run in version.model.runs] == [[1, 2, 3], [4, 5, 6]]


def test_a_full_batch_does_not_wait_and_a_lone_request_waits_for_the_timeout_at_most() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})
    executor = batching(replace(FOUR, batch_timeout_micros=20_000, max_enqueued_batches=100))

    async def main() -> None:
        # A batch that is not full would be run by its timer, later than what follows.
        patient = EngineExecutor(4, BatchingPolicies(replace(FOUR, batch_timeout_micros=3_600_000_000)))
        full = await asyncio.wait_for(
            asyncio.gather(*(ask(patient, version, serve, {"x": floats(x)}) for x in range(4))), 10
        )
        assert [values(outcome) for outcome in full] == [[0], [2], [4], [6]]
        assert values(await asyncio.wait_for(ask(executor, version, serve, {"x": floats(7)}), 10)) == [14]

    asyncio.run(main())
    assert version.model.sizes() == [4, 1]


def test_signatures_versions_outputs_shapes_and_types_are_never_mixed() -> None:
    one, two = signature("one", outputs=("y", "z")), signature("two", outputs=("y", "z"))

    def compute(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": inputs["x"], "z": inputs["x"]}

    first, second = FakeVersion({one: compute, two: compute}, 1), FakeVersion({one: compute, two: compute}, 2)
    executor = EngineExecutor(4, BatchingPolicies(replace(FOUR, max_batch_size=100, max_execution_batch_size=100)))

    async def main() -> None:
        first.model.gate.clear()
        blocker = asyncio.ensure_future(ask(executor, first, one, {"x": floats(0)}))
        await entered(first.model)
        first.model.runs.clear()
        tasks = []
        for _ in range(2):
            for version, sig in ((first, one), (first, two), (second, second.model.signatures["one"])):
                tasks += [
                    ask(executor, version, sig, {"x": floats(1)}, ["y"]),
                    ask(executor, version, sig, {"x": floats(1)}, ["z"]),
                    ask(executor, version, sig, {"x": floats(1)}, ["y", "z"]),
                    ask(executor, version, sig, {"x": floats(1, 2).reshape(1, 2)}, ["y"]),
                    ask(executor, version, sig, {"x": np.array([1], np.float64)}, ["y"]),
                ]
        gathered = asyncio.gather(*tasks)
        await asyncio.sleep(0)
        first.model.gate.set()
        await blocker
        await gathered

    asyncio.run(main())
    for version in (first, second):
        kinds = {(sig.name, run["x"].dtype, run["x"].shape) for sig, run in version.model.runs}
        assert {run["x"].shape[0] for _, run in version.model.runs} == {2}
        assert kinds == {
            (sig.name, np.dtype(dtype), shape)
            for sig in ((one, two) if version is first else (one,))
            for dtype, shape in ((np.float32, (2,)), (np.float32, (2, 2)), (np.float64, (2,)))
        }


def test_the_one_that_fails_fails_alone() -> None:
    def positive(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if (inputs["x"] <= 0).any():
            raise invalid_argument(f"not positive: {inputs['x'].tolist()}")
        return {"y": inputs["x"] * 2}

    serve = signature()
    version = FakeVersion({serve: positive})

    async def main() -> None:
        async with Crowd(batching(FOUR), version, serve, busy=1) as crowd:
            for x in (floats(1), floats(-2), floats(3, 4)):
                await crowd.add({"x": x})
            first, second, third = await crowd.answers()
        assert (values(first), values(third)) == ([2], [6, 8])
        assert error(second).message == "not positive: [-2.0]"

    asyncio.run(main())
    assert version.model.sizes() == [4, 1, 1, 2]


def test_what_changes_state_is_joined_but_not_run_again_when_that_fails() -> None:
    count = signature(stateless=False, row_wise=False)

    def fail(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if (inputs["x"] < 0).any():
            raise invalid_argument("negative")
        return doubled(inputs)

    version = FakeVersion({count: fail})

    async def main() -> None:
        async with Crowd(batching(FOUR), version, count, busy=1) as crowd:
            for x in (floats(1), floats(-1)):
                await crowd.add({"x": x})
            assert [error(outcome).message for outcome in await crowd.answers()] == ["negative", "negative"]

    asyncio.run(main())
    assert version.model.sizes() == [2]


def test_outputs_without_rows_are_computed_for_each_request_alone_and_that_is_remembered() -> None:
    serve = signature()
    version = FakeVersion({serve: lambda inputs: {"y": inputs["x"].sum()}})
    executor = batching(FOUR)

    async def main() -> None:
        for sizes in ([1, 2, 3], [1, 2]):
            async with Crowd(executor, version, serve, busy=1) as crowd:
                await crowd.add({"x": floats(1, 2)})
                await crowd.add({"x": floats(3)})
                assert [values(outcome) for outcome in await crowd.answers()] == [3, 3]
            assert sorted(version.model.sizes()) == sizes

    asyncio.run(main())


def test_outputs_without_rows_of_what_changes_state_are_refused_as_by_the_real_server() -> None:
    count = signature(stateless=False, row_wise=False)
    version = FakeVersion({count: lambda inputs: {"y": floats(7)}})

    async def main() -> None:
        async with Crowd(batching(FOUR), version, count, busy=1) as crowd:
            await crowd.add({"x": floats(1)})
            await crowd.add({"x": floats(2)})
            outcomes = await crowd.answers()
        assert {(error(o).code, error(o).message) for o in outcomes} == {
            (
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors",
            )
        }

    asyncio.run(main())


def test_a_batch_is_padded_with_a_row_of_its_last_request() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})
    parameters = replace(FOUR, allowed_batch_sizes=(2, 4))

    async def main() -> None:
        executor = batching(parameters)
        assert values((await asyncio.gather(ask(executor, version, serve, {"x": floats(9)})))[0]) == [18]
        async with Crowd(executor, version, serve, busy=1) as crowd:
            await crowd.add({"x": floats(1)})
            await crowd.add({"x": floats(2, 3)})
            assert [values(outcome) for outcome in await crowd.answers()] == [[2], [4, 6]]
        assert [run["x"].tolist() for _, run in version.model.runs] == [[1, 2, 3, 2]]

    asyncio.run(main())


def test_rows_of_different_lengths_are_padded_where_that_is_asked_for() -> None:
    serve = signature()
    version = FakeVersion({serve: lambda inputs: {"y": inputs["x"]}})

    async def main() -> None:
        async with Crowd(batching(replace(FOUR, pad_variable_length_inputs=True)), version, serve, busy=1) as crowd:
            await crowd.add({"x": floats(1, 2, 3).reshape(1, 3)})
            await crowd.add({"x": floats(4, 5).reshape(2, 1)})
            outcomes = await crowd.answers()
        assert [values(outcome) for outcome in outcomes] == [[[1, 2, 3]], [[4, 4, 4], [5, 4, 4]]]

    asyncio.run(main())
    assert version.model.sizes() == [3]


def test_a_request_larger_than_a_batch_is_refused() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})
    with pytest.raises(ServingError) as caught:
        asyncio.run(ask(batching(FOUR), version, serve, {"x": np.zeros(5, np.float32)}))
    assert str(caught.value) == "INVALID_ARGUMENT: Task size 5 is larger than maximum input batch size 4"
    version.close()
    assert version.drained.is_set()
    assert version.model.runs == []


def test_a_full_queue_refuses_more_and_takes_it_again_once_it_has_room() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        executor = batching(replace(FOUR, max_enqueued_batches=2))
        async with Crowd(executor, version, serve, busy=1) as crowd:
            for _ in range(8):
                await crowd.add({"x": floats(1)})
            refused = await crowd.add({"x": floats(2)})
            with pytest.raises(ServingError) as caught:
                await refused
            assert str(caught.value) == (
                "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; currently 2 batches "
                "enqueued and max_enqueued_batches is 2"
            )
            outcomes = await crowd.answers()
        assert [values(outcome) for outcome in outcomes[:8]] == [[2]] * 8
        assert values(await ask(executor, version, serve, {"x": floats(2)})) == [4]

    asyncio.run(main())


def test_a_large_request_fills_what_is_left_of_a_batch_and_then_others() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        async with Crowd(batching(SPLITTING), version, serve, busy=1) as crowd:
            await crowd.add({"x": floats(1)})
            await crowd.add({"x": np.arange(10, 19, dtype=np.float32)})
            await crowd.add({"x": floats(2)})
            outcomes = await crowd.answers()
        assert [values(outcome) for outcome in outcomes] == [[2], [2.0 * x for x in range(10, 19)], [4]]

    asyncio.run(main())
    assert [run["x"].tolist() for _, run in version.model.runs] == [[1, 10, 11, 12], [13, 14, 15, 16], [17, 18, 2]]


def test_a_large_request_needs_room_for_all_of_it() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        executor = batching(replace(SPLITTING, max_enqueued_batches=2))
        async with Crowd(executor, version, serve, busy=1) as crowd:
            await crowd.add({"x": floats(1)})
            refused = await crowd.add({"x": np.zeros(8, np.float32)})
            fits = await crowd.add({"x": np.ones(7, np.float32)})
            with pytest.raises(ServingError) as caught:
                await refused
            assert str(caught.value) == (
                "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; task size is 8 but "
                "scheduling capacity is only 7 (num_enqueued_batches=1, max_enqueued_batches=2, open_batch_size=1, "
                "max_execution_batch_size=4)"
            )
            await crowd.answers()
            assert values(await fits) == [2] * 7

    asyncio.run(main())


def test_a_split_request_whose_outputs_have_no_rows_is_run_as_a_whole() -> None:
    serve = signature()
    version = FakeVersion({serve: lambda inputs: {"y": inputs["x"].sum()}})
    executor = batching(SPLITTING)
    x = np.arange(10, dtype=np.float32)

    async def main() -> None:
        assert values(await ask(executor, version, serve, {"x": x})) == 45
        assert values(await ask(executor, version, serve, {"x": x})) == 45

    asyncio.run(main())
    assert version.model.sizes()[-1] == 10
    assert version.model.sizes().count(10) == 2
    version.close()
    assert version.drained.wait(5)


def test_a_split_request_of_which_a_part_fails_fails() -> None:
    def below_eight(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if (inputs["x"] >= 8).any():
            raise invalid_argument("too much")
        return doubled(inputs)

    serve = signature()
    version = FakeVersion({serve: below_eight})

    async def main() -> None:
        async with Crowd(batching(SPLITTING), version, serve, busy=1) as crowd:
            await crowd.add({"x": np.arange(10, dtype=np.float32)})
            await crowd.add({"x": floats(1)})
            first, second = await crowd.answers()
        assert error(first).message == "too much"
        assert values(second) == [2]

    asyncio.run(main())
    version.close()
    assert version.drained.wait(5)


def test_requests_without_a_batch_dimension_run_alone() -> None:
    serve = signature(inputs=("a", "b"))
    version = FakeVersion({serve: lambda inputs: {"y": inputs["a"].sum() + inputs["b"].sum()}})
    one, two, none = floats(1), floats(1, 2), np.zeros((0,), np.float32)

    async def main() -> None:
        executor = batching(replace(FOUR, allowed_batch_sizes=(4,)))
        for a, b, total in ((np.float32(1).reshape(()), one, 2), (one, two, 4), (none, none, 0)):
            assert values(await ask(executor, version, serve, {"a": a, "b": b})) == total

    asyncio.run(main())
    assert len(version.model.runs) == 3


def test_who_waits_is_answered_at_the_deadline_and_left_out_of_the_batch() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        async with Crowd(batching(FOUR), version, serve, busy=1) as crowd:
            late = await crowd.add({"x": floats(1)}, deadline=time.monotonic() + 0.02)
            await crowd.add({"x": floats(2)})
            with pytest.raises(ServingError) as caught:
                await late
            assert caught.value.code is Code.DEADLINE_EXCEEDED
            outcomes = await crowd.answers()
        assert values(outcomes[1]) == [4]

    asyncio.run(main())
    assert [run["x"].tolist() for _, run in version.model.runs] == [[2]]


def test_the_run_may_take_until_the_latest_deadline_of_its_batch() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main(deadlines: list[float | None]) -> float | None:
        async with Crowd(batching(FOUR), version, serve, busy=1) as crowd:
            for deadline in deadlines:
                await crowd.add({"x": floats(1)}, deadline=deadline and time.monotonic() + deadline)
            await crowd.answers()
        (timeout,) = version.model.timeouts
        return timeout

    timeout = asyncio.run(main([1000.0, 2000.0]))
    assert timeout is not None
    assert 1000 < timeout <= 2000
    assert asyncio.run(main([1000.0, None])) is None


def test_who_leaves_is_left_out_and_lets_the_version_go() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        async with Crowd(batching(FOUR), version, serve, busy=1) as crowd:
            gone = await crowd.add({"x": floats(1)})
            await crowd.add({"x": floats(2)})
            gone.cancel()
            await crowd.answers()

    asyncio.run(main())
    assert [run["x"].tolist() for _, run in version.model.runs] == [[2]]
    version.close()
    assert version.drained.wait(5)


def test_the_version_stays_until_the_batch_has_run_though_all_have_left() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        version.model.gate.clear()
        task = asyncio.ensure_future(ask(batching(FOUR), version, serve, {"x": floats(1)}))
        await entered(version.model)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        version.close()
        assert not version.drained.is_set()
        version.model.gate.set()
        assert await asyncio.to_thread(version.drained.wait, 5)

    asyncio.run(main())


def test_at_a_stop_what_runs_ends_and_what_waits_is_refused() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})

    async def main() -> None:
        executor = batching(FOUR)
        version.model.gate.clear()
        running = asyncio.ensure_future(ask(executor, version, serve, {"x": floats(1)}))
        await entered(version.model)
        waiting = [asyncio.ensure_future(ask(executor, version, serve, {"x": floats(1, 2, 3)})) for _ in range(3)]
        await asyncio.sleep(0)
        executor.stop()
        version.model.gate.set()
        assert values(await running) == [2]
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, ServingError)
            assert outcome.code is Code.UNAVAILABLE

    asyncio.run(main())
    version.close()
    assert version.drained.wait(5)


def test_queues_take_turns_on_the_batch_threads() -> None:
    one, two = signature("one"), signature("two")
    version = FakeVersion({one: doubled, two: doubled})

    async def main() -> None:
        executor = batching(FOUR)
        async with Crowd(executor, version, one, busy=1) as crowd:
            for _ in range(3):
                await crowd.add({"x": floats(1, 2, 3, 4)})
            other = asyncio.ensure_future(ask(executor, version, two, {"x": floats(1)}))
            await asyncio.sleep(0)
            await crowd.answers()
            await other

    asyncio.run(main())
    assert [sig.name for sig, _ in version.model.runs] == ["one", "two", "one", "one"]


def test_a_signature_is_forgotten_with_its_model() -> None:
    executor = batching(FOUR)

    async def main() -> "weakref.ref[Signature]":
        serve = signature()
        version = FakeVersion({serve: doubled})
        await asyncio.gather(*(ask(executor, version, serve, {"x": floats(1)}) for _ in range(5)))
        with pytest.raises(ServingError):
            await ask(executor, version, serve, {"x": np.zeros((5, 2), np.float32)})
        version.close()
        assert await asyncio.to_thread(version.drained.wait, 5)
        return weakref.ref(serve)

    left = asyncio.run(main())
    gc.collect()
    assert left() is None


def test_it_is_told_how_long_each_request_waited() -> None:
    serve = signature()
    version = FakeVersion({serve: doubled})
    seen: list[tuple[str, int]] = []

    async def main() -> None:
        policies = BatchingPolicies(replace(FOUR, batch_timeout_micros=1000))
        executor = EngineExecutor(4, policies, lambda name, micros: seen.append((name, len(micros))))
        await asyncio.gather(*(ask(executor, version, serve, {"x": floats(1)}) for _ in range(4)))

    asyncio.run(main())
    assert seen == [("batch_threads", 4)]
