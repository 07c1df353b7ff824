import pytest
from core_fakes import FakeLoader, House

from pyserving.core.errors import Code, ServingError
from pyserving.core.resources import Resources, ResourceTracker
from pyserving.core.servable import ServableId
from pyserving.core.transition_policy import ResourcePreserving


def limited(limit: int, **options: object) -> House:
    return House(resources=ResourceTracker(Resources(limit)), **options)


def test_a_load_beyond_the_limit_is_refused_with_need_free_and_limit() -> None:
    house = limited(1000, max_num_load_retries=0)
    house.aspire("a", v1=FakeLoader(need=700))
    house.settle()
    house.aspire("b", v2=FakeLoader(need=301))
    house.settle()
    assert house.error("b", 2) == (
        "RESOURCE_EXHAUSTED: Servable {name: b version: 2} needs 301 bytes of memory, "
        "but 300 bytes are free of the limit of 1000"
    )
    assert house.loaders["b", 2].loads == 0
    house.aspire("c", v1=FakeLoader(need=300))
    house.settle()
    assert house.manager.resources.used == Resources(1000)


def test_a_refused_load_is_tried_again_like_any_failed_one() -> None:
    house = limited(1000, load_retry_interval=60.0)
    house.aspire("a", v1=FakeLoader(need=700))
    house.settle()
    house.aspire("b", v1=FakeLoader(need=700))
    house.settle()
    house.aspire("a")
    house.settle()
    house.clock.advance(60)
    house.settle()
    assert house.told("b", 1) == ["START", "LOADING", "AVAILABLE"]


def test_a_load_waits_for_the_room_of_a_version_that_is_leaving() -> None:
    house = limited(1000, max_num_load_retries=0)
    house.aspire("a", v1=FakeLoader(need=700))
    house.settle()
    handle = house.manager.serving.acquire("a")
    house.aspire("a")
    house.aspire("b", v1=FakeLoader(need=700))
    house.settle()
    assert house.told("b", 1) == ["START", "LOADING"]
    handle.release()
    house.settle()
    assert house.told("b", 1) == ["START", "LOADING", "AVAILABLE"]


def test_a_load_that_waits_for_room_is_given_up_when_it_is_no_longer_aspired() -> None:
    house = limited(1000)
    house.aspire("a", v1=FakeLoader(need=700))
    house.settle()
    handle = house.manager.serving.acquire("a")
    house.aspire("a")
    house.aspire("b", v1=FakeLoader(need=700))
    house.settle()
    house.aspire("b")
    assert house.told("b", 1) == ["START", "LOADING", "END"]
    handle.release()
    house.settle()
    assert house.loaders["b", 1].loads == 0


def test_a_load_that_fails_gives_back_its_memory() -> None:
    house = limited(1000, max_num_load_retries=0)
    house.aspire("a", v1=FakeLoader(ServingError(Code.DATA_LOSS, "bad file"), need=1000))
    house.settle()
    assert house.manager.resources.used == Resources(0)


def test_resource_preserving_swaps_two_versions_that_do_not_fit_together() -> None:
    house = limited(1000, policy=ResourcePreserving(), max_num_load_retries=0)
    house.aspire("m", v1=FakeLoader(need=900))
    house.settle()
    house.aspire("m", v2=FakeLoader(need=900))
    house.settle()
    assert house.manager.serving.available("m") == [2]


def test_availability_preserving_keeps_the_old_version_if_the_new_one_does_not_fit_beside_it() -> None:
    house = limited(1000, max_num_load_retries=0)
    house.aspire("m", v1=FakeLoader(need=900))
    house.settle()
    house.aspire("m", v2=FakeLoader(need=900))
    house.settle()
    assert house.manager.serving.available("m") == [1]
    assert house.error("m", 2).startswith("RESOURCE_EXHAUSTED")


def test_without_a_limit_everything_fits() -> None:
    tracker = ResourceTracker()
    tracker.reserve(ServableId("m", 1), Resources(1 << 60))
    tracker.reserve(ServableId("m", 2), Resources(1))
    tracker.release(ServableId("m", 1))
    tracker.release(ServableId("m", 1))
    assert tracker.used == Resources(1)
    assert tracker.limit is None


def test_reserving_takes_no_more_than_there_is() -> None:
    tracker = ResourceTracker(Resources(10))
    tracker.reserve(ServableId("m", 1), Resources(10))
    with pytest.raises(ServingError, match="0 bytes are free of the limit of 10"):
        tracker.reserve(ServableId("m", 2), Resources(1))
    assert tracker.used == Resources(10)
