"""Which requests may wait for an engine call."""

import asyncio
import math
import time
from dataclasses import replace

import pytest
from batching_fakes import Crowd, FakeVersion, ask, doubled, entered, floats, idle, signature

from pyserving.batching.admission import (
    ALL_QUEUES,
    DEADLINE,
    IN_FLIGHT,
    QUEUE,
    Admission,
    AdmissionOptions,
    Limits,
    ModelTerms,
)
from pyserving.batching.automatic_queue import MAX_RUNNING
from pyserving.batching.executor import EngineExecutor
from pyserving.batching.parameters import Batching, BatchingPolicies
from pyserving.batching.priority import Priority, read_priority
from pyserving.batching.request import Request
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.model import Signature


class Gate:
    """An Admission, and the reasons of its refusals."""

    def __init__(self, **options: object) -> None:
        self.reasons: list[tuple[str, str]] = []
        self.admission = Admission(
            AdmissionOptions(**options),  # type: ignore[arg-type]
            lambda name, reason: self.reasons.append((name, reason)),
        )


def request(deadline: float | None = None, priority: Priority = Priority.NORMAL) -> Request:
    future: asyncio.Future[list] = asyncio.new_event_loop().create_future()
    return Request(future, {}, 1, deadline, priority)


def refused(lane, *arguments: object) -> ServingError:
    with pytest.raises(ServingError) as caught:
        lane.admit(*arguments)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.retry_after is not None
    return caught.value


def test_a_full_queue_refuses_and_takes_again_when_a_call_begins():
    gate = Gate(per_model=Limits(max_queued=2))
    lane = gate.admission.lane("m")
    first, second = request(), request()
    lane.admit(first, 0.1)
    lane.admit(second, 0.1)
    assert "2 requests for model m wait already, of at most 2" in refused(lane, request(), 0.1).message
    assert gate.reasons == [("m", QUEUE)]
    began = lane.begin([first])
    lane.admit(request(), 0.1)
    lane.end([first], began)
    assert gate.admission.waiting_requests() == {"m": 2}


def test_in_flight_counts_until_the_answer():
    gate = Gate(per_model=Limits(max_in_flight=1))
    lane = gate.admission.lane("m")
    first = request()
    lane.admit(first, 0.1)
    lane.end([first], lane.begin([first]))
    refused(lane, request(), 0.1)
    lane.leave(first)
    lane.admit(request(), 0.1)
    assert gate.reasons == [("m", IN_FLIGHT)]


def test_a_model_says_for_itself_and_a_reload_changes_it():
    gate = Gate(per_model=Limits(max_queued=1))
    lane = gate.admission.lane("m")
    gate.admission.configure({"m": ModelTerms(Limits(max_queued=3), Priority.HIGH)})
    assert lane.terms == ModelTerms(Limits(max_queued=3), Priority.HIGH)
    assert gate.admission.lane("other").terms.limits == Limits(max_queued=1)
    gate.admission.configure({})
    assert lane.terms == ModelTerms(Limits(max_queued=1))


def test_low_priority_leaves_half_of_the_queue_to_others():
    lane = Gate(per_model=Limits(max_queued=4)).admission.lane("m")
    for _ in range(2):
        lane.admit(request(priority=Priority.LOW), 0.1)
    refused(lane, request(priority=Priority.LOW), 0.1)
    lane.admit(request(), 0.1)


def test_the_limit_of_all_models_hits_who_has_more_than_its_part():
    gate = Gate(total=Limits(max_queued=4))
    flooded, other = gate.admission.lane("flooded"), gate.admission.lane("other")
    for _ in range(4):
        flooded.admit(request(), 0.1)
    refused(flooded, request(), 0.1)
    other.admit(request(), 0.1)
    other.admit(request(), 0.1)
    refused(other, request(), 0.1)
    assert gate.reasons == [("flooded", ALL_QUEUES), ("other", ALL_QUEUES)]


def learned(lane, seconds: float) -> None:
    """The lane has seen calls that take ``seconds`` each, one after the other."""
    for _ in range(6):
        lane.ran(seconds)
    lane._speed = lane.pace = 1.0


def test_what_cannot_be_answered_in_time_is_refused_early():
    gate = Gate(watch_deadlines=True)
    lane = gate.admission.lane("m")
    learned(lane, 0.5)
    soon = time.monotonic() + 1.5
    lane.admit(request(soon), 0.5)
    error = refused(lane, request(soon), 0.5)
    assert "cannot be answered within its deadline" in error.message
    assert 0.1 < error.retry_after < 1
    lane.admit(request(time.monotonic() + 60), 0.5)
    lane.admit(request(), 0.5)  # it has no deadline
    assert gate.reasons == [("m", DEADLINE)]


def test_what_goes_first_does_not_wait_for_what_goes_later():
    lane = Gate(watch_deadlines=True).admission.lane("m")
    learned(lane, 0.1)
    for _ in range(20):
        lane.admit(request(), 0.1)
    soon = time.monotonic() + 1
    refused(lane, request(soon), 0.1)
    lane.admit(request(soon, Priority.HIGH), 0.1)


def test_one_that_finds_no_other_is_let_in_whatever_is_expected():
    """Else what went slowly once would never be tried again."""
    lane = Gate(watch_deadlines=True).admission.lane("m")
    learned(lane, 100.0)
    alone = request(time.monotonic() + 1)
    lane.admit(alone, 100.0)
    assert lane.too_late(alone, time.monotonic(), 100.0) is None
    refused(lane, request(time.monotonic() + 1), 100.0)


def test_speed_is_learned_from_what_is_done():
    lane = Gate().admission.lane("m")
    for _ in range(3):
        requests = [request() for _ in range(10)]
        for one in requests:
            lane.admit(one, 0.1)
        began = lane.begin(requests)
        lane._busy_since -= 0.25  # as if it had taken so long
        lane.end(requests, began - 0.25)
        for one in requests:
            lane.leave(one)
    assert 3.0 < lane._speed <= 4.0  # a second of cost in a quarter of a second
    lane.admit(request(), math.inf)
    assert 0 < lane._wait(Priority.NORMAL) < 0.1


def test_nothing_is_counted_any_more_in_the_end():
    gate = Gate(total=Limits(100, 100))
    lane = gate.admission.lane("m")
    requests = [request(priority=priority) for priority in Priority]
    for one in requests:
        lane.admit(one, 0.3)
    began = lane.begin(requests[:1])
    for one in requests:
        lane.leave(one)
    lane.end(requests[:1], began)
    assert (lane.waiting, lane.in_flight, gate.admission.waiting, gate.admission.in_flight) == (0, 0, 0, 0)
    assert lane._wait(Priority.LOW) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("high", Priority.HIGH), (" Low ", Priority.LOW), ("normal", Priority.NORMAL), ("", None), ("urgent", None)],
)
def test_priorities_as_clients_name_them(text, expected):
    assert read_priority(text, Priority.LOW) is (Priority.LOW if expected is None else expected)


# With an executor


def on_threads(*, row_wise: bool = False) -> Signature:
    """Its runs are never short enough for the event loop."""
    return replace(signature(row_wise=row_wise), steady=False)


def test_the_executor_refuses_counts_and_forgets():
    async def run() -> None:
        gate = Gate(per_model=Limits(max_in_flight=3))
        one = on_threads()
        version = FakeVersion({one: doubled})
        executor = EngineExecutor(2, admission=gate.admission)
        async with Crowd(executor, version, one, busy=2) as crowd:
            waiting = await crowd.add({"x": floats(1)})
            error = (await asyncio.gather(await crowd.add({"x": floats(2)}), return_exceptions=True))[0]
            assert isinstance(error, ServingError)
            assert error.code is Code.RESOURCE_EXHAUSTED
            assert not waiting.done()
            assert gate.admission.waiting_requests() == {"m": 1}
        await idle(executor)
        assert gate.admission.in_flight == gate.admission.waiting == 0
        assert gate.reasons == [("m", IN_FLIGHT)]
        executor.stop()

    asyncio.run(run())


def test_high_priority_is_joined_first():
    async def run() -> None:
        one = on_threads(row_wise=True)
        version = FakeVersion({one: doubled})
        executor = EngineExecutor(4, BatchingPolicies(Batching.AUTOMATIC))
        async with Crowd(executor, version, one, busy=MAX_RUNNING) as crowd:
            tasks = []
            for value, priority in ((1, "low"), (2, ""), (3, "high"), (4, "high")):
                with version.hold() as handle:
                    inputs = {"x": floats(value)}
                    work = executor.run(handle, one, inputs, ("y",), None, priority)
                    tasks.append(asyncio.ensure_future(work))
                    await asyncio.sleep(0)
            crowd.model.gate.set()
            await asyncio.gather(*tasks)
            values = [float(value) for _, inputs in crowd.model.runs for value in inputs["x"]]
            assert values == [3.0, 4.0, 2.0, 1.0]
        executor.stop()

    asyncio.run(run())


def test_a_request_that_would_end_too_late_is_not_computed():
    async def run() -> None:
        gate = Gate(watch_deadlines=True)
        one = on_threads()
        version = FakeVersion({one: doubled})
        executor = EngineExecutor(1, admission=gate.admission)
        async with Crowd(executor, version, one, busy=1) as crowd:
            lane = gate.admission.lane("m")
            lane._mean_cost = 1000.0
            late = await crowd.add({"x": floats(1)}, deadline=time.monotonic() + 30)
            fine = await crowd.add({"x": floats(2)}, deadline=time.monotonic() + 30_000)
            learned(lane, 60.0)
            outcomes = await crowd.answers()
            assert isinstance(outcomes[0], ServingError)
            assert outcomes[0].code is Code.RESOURCE_EXHAUSTED
            assert late.done()
            assert fine.result()[0].tolist() == [4.0]
            assert len(crowd.model.runs) == 1
        executor.stop()

    asyncio.run(run())


def test_a_flooded_model_does_not_hold_up_another():
    async def run() -> None:
        one, other = on_threads(), on_threads()
        flooded, calm = FakeVersion({one: doubled}), FakeVersion({other: doubled}, name="calm")
        executor = EngineExecutor(2)
        async with Crowd(executor, flooded, one, busy=2) as crowd:
            for _ in range(10):
                await crowd.add({"x": floats(1)})
            for value in range(3):
                assert (await ask(executor, calm, other, {"x": floats(value)}))[0].tolist() == [2.0 * value]
            assert not crowd.model.runs
        executor.stop()

    asyncio.run(run())


def test_calls_that_are_no_runs_are_counted_too():
    async def run() -> None:
        gate = Gate(per_model=Limits(max_in_flight=1))
        one = on_threads()
        version = FakeVersion({one: doubled})
        version.model.gate.clear()
        executor = EngineExecutor(2, admission=gate.admission)
        running = asyncio.ensure_future(ask(executor, version, one, {"x": floats(1)}))
        await entered(version.model)
        with version.hold() as handle:
            with pytest.raises(ServingError, match="in flight"):
                await executor.call(handle, lambda _: [], None)
            with pytest.raises(ServingError, match="in flight"), executor.streaming(handle):
                pass
            version.model.gate.set()
            await running
            assert await executor.call(handle, lambda _: [floats(7)], None)
            with executor.streaming(handle):
                assert gate.admission.in_flight == 1
        assert gate.admission.in_flight == 0
        executor.stop()

    asyncio.run(run())


def test_calls_that_end_too_late_make_a_lane_let_in_less_until_they_are_in_time():
    lane = Gate(watch_deadlines=True).admission.lane("m")
    for _ in range(5):
        lane.ran(1.0)

    def lets_in(deadline: float) -> bool:
        """Beside one other request, with a second to wait for."""
        other, asking = request(), request(time.monotonic() + deadline)
        lane.admit(other, 1.0)
        try:
            lane.admit(asking, 1.0)
        except ServingError:
            return False
        else:
            lane.leave(asking)
            return True
        finally:
            lane.leave(other)

    def call(deadline: float) -> None:
        one = request(time.monotonic() + deadline)
        lane.admit(one, 0.0)
        lane.end([one], lane.begin([one]))
        lane.leave(one)

    assert lets_in(3.0)
    for _ in range(10):
        call(-1.0)
    assert not lets_in(3.0)
    assert lets_in(1000.0)
    for _ in range(100):
        call(60.0)
    assert lets_in(3.0)
