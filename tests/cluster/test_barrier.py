"""When versions are open, told and refused, by what replicas report; without Ray."""

import asyncio

from pyserving.ray.barrier import LEASE, WAIT, Barrier, Held, Picture, Report


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Fleet:
    """A barrier, and replicas that report to it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.barrier = Barrier(self.clock)
        self.number = 0

    def report(self, replica: str, settled: bool = True, failed: dict[int, str] | None = None, **held: Held) -> Picture:
        """``v2=Held.LOADED`` says that version 2 is loaded."""
        self.number += 1
        versions = {int(name[1:]): how for name, how in held.items()}
        self.barrier.take(replica, Report(self.number, versions, failed or {}, settled))
        return self.barrier.picture(replica)


LOADED, SERVING = Held.LOADED, Held.SERVING


def fleet_of_two() -> Fleet:
    fleet = Fleet()
    for replica in ("a", "b"):
        assert 1 in fleet.report(replica, settled=False, v1=LOADED).open
        assert fleet.report(replica, v1=SERVING).member
    return fleet


def test_a_version_opens_when_all_members_have_it_and_is_told_when_all_serve_it() -> None:
    fleet = fleet_of_two()
    assert fleet.report("a", v1=SERVING, v2=LOADED).open == {1}
    assert fleet.report("b", v1=SERVING, v2=LOADED).open == {1, 2}
    picture = fleet.report("a", v2=SERVING)
    assert picture.open == {1, 2}
    assert picture.told == set()  # b does not serve 2 yet, and a does not serve 1 any more
    picture = fleet.report("b", v2=SERVING)
    assert picture.open == picture.told == {2}


def test_a_version_that_a_member_cannot_load_is_refused() -> None:
    fleet = fleet_of_two()
    fleet.report("a", v1=SERVING, v2=LOADED)
    fleet.report("b", failed={2: "no space"}, v1=SERVING)
    picture = fleet.report("a", v1=SERVING, v2=LOADED)
    assert picture.open == {1}
    assert picture.refused == {2: "replica b could not load it: no space"}


def test_nobody_waits_for_a_replica_that_is_starting_and_it_is_no_member_before_it_serves_what_is_open() -> None:
    fleet = fleet_of_two()
    assert fleet.report("c", settled=False).open == {1}
    fleet.report("a", v1=SERVING, v2=LOADED)
    assert fleet.report("b", v1=SERVING, v2=LOADED).open == {1, 2}
    assert not fleet.report("c", v1=SERVING).member
    assert fleet.report("c", v1=SERVING, v2=SERVING).member


def test_a_starting_replica_opens_nothing_that_members_do_not_have() -> None:
    fleet = fleet_of_two()
    assert fleet.report("c", settled=False, v1=SERVING, v2=LOADED).open == {1}


def test_a_replica_that_is_silent_for_long_is_not_waited_for() -> None:
    fleet = fleet_of_two()
    while fleet.clock.now < LEASE - WAIT:
        fleet.clock.now += WAIT
        assert fleet.report("a", v1=SERVING, v2=LOADED).open == {1}
    fleet.clock.now += WAIT
    assert fleet.report("a", v1=SERVING, v2=LOADED).open == {1, 2}


def test_nobody_is_taken_as_gone_because_the_barrier_itself_stood_still() -> None:
    fleet = fleet_of_two()
    fleet.clock.now = LEASE + 1
    assert fleet.report("a", v1=SERVING, v2=LOADED).open == {1}
    assert fleet.report("b", v1=SERVING, v2=LOADED).open == {1, 2}


def test_a_replica_that_leaves_is_not_waited_for() -> None:
    fleet = fleet_of_two()
    fleet.report("a", v1=SERVING, v2=LOADED)
    fleet.barrier.leave("b")
    assert fleet.barrier.picture("a").open == {1, 2}


def test_a_barrier_that_was_replaced_opens_nothing_before_all_had_time_to_report() -> None:
    fleet = Fleet()
    assert fleet.report("a", v1=SERVING, v2=LOADED).open == {1}
    assert fleet.report("b", v1=SERVING).open == {1}
    fleet.clock.now = LEASE + 1
    fleet.report("b", v1=SERVING)
    assert fleet.report("a", v1=SERVING, v2=LOADED).open == {1}
    assert fleet.report("b", v1=SERVING, v2=LOADED).open == {1, 2}


def test_a_barrier_that_was_replaced_tells_nothing_before_all_had_time_to_report() -> None:
    fleet = Fleet()
    assert fleet.report("a", v2=SERVING).told == set()  # b may still be at 1
    fleet.clock.now = LEASE
    assert fleet.report("b", v1=SERVING, v2=LOADED).open == {2}
    assert fleet.report("b", v2=SERVING).told == {2}


def test_a_replica_that_starts_tells_a_replaced_barrier_that_there_was_another() -> None:
    fleet = Fleet()
    fleet.barrier.take("c", Report(1, {1: LOADED, 2: LOADED}), has_reported=True)
    assert fleet.barrier.picture("c").open == set()
    assert fleet.report("a", v1=SERVING).open == {1}
    assert fleet.report("b", v1=SERVING).member
    fleet.clock.now = LEASE
    assert fleet.report("a", v1=SERVING, v2=LOADED).open == {1}
    assert fleet.report("b", v1=SERVING, v2=LOADED).open == {1, 2}


def test_an_older_report_that_comes_late_changes_nothing() -> None:
    fleet = fleet_of_two()
    fleet.report("a", v1=SERVING, v2=LOADED)
    fleet.barrier.take("a", Report(0, {1: SERVING}, {}, True))
    assert fleet.report("b", v1=SERVING, v2=LOADED).open == {1, 2}


def test_an_answer_is_held_back_until_there_is_something_new() -> None:
    async def ask() -> bytes:
        barrier = Barrier()
        known = await barrier.sync("a", Report(1), None)
        waiting = asyncio.ensure_future(barrier.sync("a", Report(2), known))
        await asyncio.sleep(0)
        assert not waiting.done()
        barrier.config = b"new"
        return (await waiting).config

    assert asyncio.run(ask()) == b"new"


def test_who_leaves_is_noticed_at_once() -> None:
    async def scene() -> frozenset[int]:
        barrier = Barrier()
        for replica in ("a", "b"):
            await barrier.sync(replica, Report(1, {1: LOADED}), None)
        barrier.take("a", Report(2, {1: SERVING}, {}, True))
        barrier.take("b", Report(2, {1: SERVING}, {}, True))
        barrier.take("b", Report(3, {1: LOADED}, {}, True))
        known = barrier.picture("a")
        assert known.told == set()
        waiting = asyncio.ensure_future(barrier.sync("a", Report(3, {1: SERVING}, {}, True), known))
        await asyncio.sleep(0)
        barrier.leave("b")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.done()
        return (await waiting).told

    assert asyncio.run(scene()) == {1}
