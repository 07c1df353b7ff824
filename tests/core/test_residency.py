"""Models that are loaded for requests, and make room for each other."""

import logging

import pytest
from core_fakes import FakeLoader, House

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle
from pyserving.core.residency import LOOK_AGAIN, PATIENCE, Residency, Stay
from pyserving.core.resources import Resources, ResourceTracker

LAZY = Stay(lazy=True)
PINNED = Stay(pinned=True)
ONCE = ["START", "LOADING", "AVAILABLE"]
EVICTED = ["UNLOADING", "END", "START"]


class LazyHouse(House):
    """With a memory budget, and all models lazy that are not said to be otherwise."""

    def __init__(self, budget: int | None = 10, stays: dict[str, Stay] | None = None, **options: object) -> None:
        self.residency = Residency(evicts=budget is not None)
        limit = None if budget is None else Resources(budget)
        super().__init__(residency=self.residency, resources=ResourceTracker(limit), **options)
        self.manager.set_stays(dict.fromkeys("abcd", LAZY) if stays is None else stays)

    def need(self, **models: int) -> None:
        for name, need in models.items():
            self.aspire(name, v1=FakeLoader(need=need))
        self.settle()

    def ask(self, name: str, version: int | None = None) -> ServableHandle:
        """A request, which waits as long as it takes."""
        for _ in range(200):
            try:
                return self.manager.serving.acquire(name, version)
            except ServingError:
                step = self.manager.wake(name, version)
                if step is None:
                    return self.manager.serving.acquire(name, version)
                self.settle()
                if not step.done():
                    self.clock.advance(LOOK_AGAIN)
        raise AssertionError("it is never loaded")

    def use(self, name: str) -> None:
        """A request, long enough after the last load."""
        self.clock.advance(1.0)
        with self.ask(name) as handle:
            handle.servable.compute()

    def loaded(self) -> str:
        return "".join(sorted(servable.name for servable in self.manager.serving.handles_out()))


def test_a_lazy_model_is_loaded_by_the_first_request() -> None:
    house = LazyHouse(None)
    house.need(a=1)
    assert house.told("a", 1) == ["START"]
    assert house.events[-1].dormant
    assert house.manager.is_unloaded("a")
    house.use("a")
    assert house.told("a", 1) == ONCE
    assert not house.manager.is_unloaded("a")
    assert house.residency.loads == {"a": 1}


def test_many_requests_share_one_load() -> None:
    house = LazyHouse(None)
    house.need(a=1)
    steps = [house.manager.wake("a") for _ in range(10)]
    assert len(house.steps.jobs) == 1
    house.settle()
    assert all(step is not None and step.done() for step in steps)
    assert house.loaders["a", 1].loads == 1


def test_a_model_is_loaded_with_all_its_versions() -> None:
    house = LazyHouse(None)
    house.aspire("a", 1, 2)
    assert house.ask("a", 1).id.version == 1
    assert house.manager.serving.available("a") == [2, 1]


def test_nothing_is_loaded_for_a_version_that_there_is_not() -> None:
    house = LazyHouse(None)
    house.need(a=1)
    assert house.manager.wake("a", 7) is None
    assert house.manager.wake("no such model") is None
    assert house.steps.jobs == []


def test_a_new_version_of_an_unloaded_model_waits_for_a_request_too() -> None:
    house = LazyHouse(None)
    house.need(a=1)
    house.aspire("a", 2)
    house.settle()
    assert (house.told("a", 1), house.told("a", 2)) == (["START", "END"], ["START"])
    assert house.ask("a").id.version == 2


def test_a_new_version_of_a_loaded_model_is_loaded_at_once() -> None:
    house = LazyHouse(None)
    house.need(a=1)
    house.use("a")
    house.aspire("a", 2)
    house.settle()
    assert house.manager.serving.available("a") == [2]


def test_a_request_that_is_cancelled_takes_the_model_from_no_other() -> None:
    house = LazyHouse(None)
    house.aspire("a", 1, 2)
    first = house.manager.wake("a")
    assert first is not None
    assert not first.cancel()
    house.settle()
    assert first.result() is None
    assert house.manager.serving.available("a") == [2, 1]


def test_a_load_that_fails_is_told_to_all_and_tried_again_after_a_pause() -> None:
    house = LazyHouse(None, load_retry_interval=60.0)
    house.aspire("a", v1=FakeLoader(ServingError(Code.DATA_LOSS, "bad file")))
    steps = [house.manager.wake("a"), house.manager.wake("a")]
    house.settle()
    assert all(step is not None and step.done() for step in steps)
    for _ in range(2):
        with pytest.raises(ServingError, match="Model a could not be loaded: bad file") as caught:
            house.manager.wake("a")
        assert (caught.value.code, caught.value.retry_after) == (Code.UNAVAILABLE, 60.0)
    assert house.told("a", 1) == ["START", "LOADING", "END"]
    assert house.events[-1].dormant
    house.clock.advance(59)
    with pytest.raises(ServingError):
        house.manager.wake("a")
    house.clock.advance(1)
    house.use("a")
    assert house.told("a", 1)[2:] == ["END", *ONCE]


def test_the_model_that_was_not_used_for_longest_makes_room() -> None:
    house = LazyHouse(10)
    house.need(a=4, b=4, c=4)
    for name in "abab":
        house.use(name)
    house.use("c")
    assert house.loaded() == "bc"
    assert house.told("a", 1) == [*ONCE, *EVICTED]
    assert house.manager.resources.used == Resources(8)
    assert house.residency.evictions == {"a": 1}
    house.use("a")
    assert house.loaded() == "ac"
    assert house.told("a", 1) == [*ONCE, *EVICTED, *ONCE[1:]]


def test_as_many_make_room_as_must() -> None:
    house = LazyHouse(10)
    house.need(a=3, b=3, c=3, d=6)
    for name in "abcd":
        house.use(name)
    assert house.loaded() == "cd"


def test_a_pinned_model_stays() -> None:
    house = LazyHouse(10, {"a": PINNED, "b": LAZY, "c": LAZY})
    house.need(a=4, b=4, c=4)
    assert house.loaded() == "a"
    for name in "bcbc":
        house.use(name)
        assert house.loaded() == f"a{name}"


def test_a_request_keeps_its_model_loaded() -> None:
    house = LazyHouse(10)
    house.need(a=6, b=3, c=6)
    held = house.ask("a")
    house.use("b")
    step = house.manager.wake("c")
    assert step is not None
    house.settle()
    assert house.loaded() == "ab"
    held.servable.compute()
    house.clock.advance(PATIENCE / 2)
    house.settle()
    assert house.loaded() == "ab"
    held.release()
    for _ in range(5):
        house.clock.advance(LOOK_AGAIN)
        house.settle()
    assert house.loaded() == "bc"


def test_a_model_that_is_always_busy_makes_room_when_its_requests_have_ended() -> None:
    house = LazyHouse(10)
    house.need(a=6, b=6)
    held = house.ask("a")
    house.manager.wake("b")
    house.settle()
    while house.manager.serving.available("a"):
        house.clock.advance(LOOK_AGAIN)
        house.settle()
        assert house.clock.now < 1000 + PATIENCE + 1
    held.servable.compute()
    assert house.loaded() == ""
    held.release()
    house.settle()
    assert house.loaded() == "b"


@pytest.mark.parametrize(
    ("stays", "message"),
    [
        ({"b": LAZY}, "needs 11 bytes of memory, more than all of the budget of 10"),
        ({"a": PINNED, "b": LAZY}, "of the budget of 10 4 bytes are taken by pinned models"),
    ],
)
def test_what_does_not_fit_even_alone_is_refused_with_sizes(stays: dict[str, Stay], message: str) -> None:
    house = LazyHouse(10, stays)
    house.need(a=4, b=7 if "a" in stays else 11)
    with pytest.raises(ServingError, match=message) as caught:
        house.ask("b")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert house.loaded() == "a"


def test_at_the_start_models_are_loaded_as_far_as_they_fit() -> None:
    house = LazyHouse(10, {})
    house.need(a=4, b=4, c=4)
    assert house.loaded() == "ab"
    assert house.told("c", 1) == ["START", "LOADING", "END", "START"]
    assert house.events[-1].dormant
    assert house.residency.evictions == {}
    house.use("c")
    assert len(house.loaded()) == 2
    assert "c" in house.loaded()


def test_a_new_version_displaces_models_that_are_used_less() -> None:
    house = LazyHouse(10)
    house.need(a=4, b=4)
    house.use("b")
    house.use("a")
    house.clock.advance(1)
    house.aspire("a", v2=FakeLoader(need=4))
    house.settle()
    assert house.loaded() == "a"
    assert house.manager.serving.available("a") == [2]


def test_a_new_version_of_the_model_used_least_sends_it_to_sleep() -> None:
    house = LazyHouse(10)
    house.need(a=4, b=4)
    house.use("a")
    house.use("b")
    house.aspire("a", v2=FakeLoader(need=4))
    house.settle()
    assert house.loaded() == "b"
    assert house.ask("a").id.version == 2


def test_a_model_stays_as_long_as_its_load_took() -> None:
    house = LazyHouse(10)
    house.need(a=6, b=6)
    slow = house.loaders["a", 1]
    loads = slow.load

    def load() -> object:
        house.clock.now += 5.0
        return loads()

    slow.load = load  # type: ignore[method-assign, assignment]
    house.ask("a").release()
    loaded = house.clock.now
    house.ask("b").release()
    assert 5.0 <= house.clock.now - loaded < 5.2


def test_thrashing_is_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    house = LazyHouse(10)
    house.need(a=6, b=6)
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            house.use("a")
            house.use("b")
    assert house.residency.evictions.total() == 39
    assert [record.message for record in caplog.records] == [
        "Model a is loaded again 1.0 s after it was evicted: the models in use need more than the memory budget. "
        "Evictions so far: 1"
    ]


def test_a_model_that_is_lazy_no_more_is_loaded() -> None:
    house = LazyHouse(10)
    house.need(a=4, b=4)
    house.manager.set_stays({"a": PINNED, "b": LAZY})
    house.settle()
    assert house.loaded() == "a"


def test_a_request_that_comes_while_the_model_is_evicted_gets_it_anew() -> None:
    house = LazyHouse(10)
    house.need(a=6, b=6)
    house.use("a")
    house.clock.advance(1)
    house.manager.wake("b")
    house.steps.take()  # finds no room, and evicts
    assert house.told("a", 1)[-1] == "UNLOADING"
    house.use("a")
    assert house.told("a", 1)[-1] == "AVAILABLE"
    assert house.told("b", 1)[:3] == ONCE


def test_what_is_taken_out_while_it_sleeps_ends() -> None:
    house = LazyHouse(10)
    house.need(a=6)
    step = house.manager.wake("a")
    house.aspire("a")
    house.settle()
    assert step is not None
    assert step.done()
    assert house.told("a", 1)[-1] == "END"
    assert not house.manager.is_unloaded("a")
    house.need(b=6)
    assert house.manager.stop(0)
    assert house.told("b", 1) == ["START", "END"]
