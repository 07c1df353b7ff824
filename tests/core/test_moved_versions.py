from core_fakes import BrokenLoader, FakeLoader, House

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.core.source import AspiredVersion

M1 = ServableId("m", 1)


def broken() -> BrokenLoader:
    return BrokenLoader(ServingError(Code.INVALID_ARGUMENT, "not a model"))


def move(house: House, loader: FakeLoader) -> None:
    house.manager.set_aspired_versions("m", [AspiredVersion(M1, loader)], moved={1})


def test_a_version_that_has_failed_tells_why_it_will_not_be_available() -> None:
    house = House(max_num_load_retries=1, load_retry_interval=60.0)
    house.aspire("m", v1=broken())
    house.settle()
    assert house.manager.failure(M1) is None  # it will be tried again
    house.clock.advance(60)
    house.settle()
    failure = house.manager.failure(M1)
    assert failure is not None
    assert failure.message == "not a model"
    assert house.manager.failure(ServableId("m", 2)) is None


def test_what_has_failed_is_tried_with_another_loader_once_it_has_moved() -> None:
    house = House(max_num_load_retries=0)
    house.aspire("m", v1=broken())
    house.settle()
    better = FakeLoader()
    house.aspire("m", v1=better)
    house.settle()
    assert better.loads == 0
    move(house, better)
    house.settle()
    assert better.loads == 1
    assert house.told("m", 1) == ["START", "LOADING", "END", "START", "LOADING", "AVAILABLE"]


def test_what_waits_to_be_tried_again_ends_without_an_error_as_it_moves() -> None:
    house = House(max_num_load_retries=5, load_retry_interval=60.0)
    house.aspire("m", v1=broken())
    house.settle()
    better = FakeLoader()
    move(house, better)
    house.settle()
    assert better.loads == 1
    assert house.told("m", 1) == ["START", "LOADING", "END", "START", "LOADING", "AVAILABLE"]
    assert all(event.error is None for event in house.events)
    house.clock.advance(60)  # the retry of the one before
    house.settle()
    assert better.loads == 1


def test_what_serves_or_loads_stays_though_it_has_moved() -> None:
    house = House()
    house.aspire("m", 1)
    elsewhere = FakeLoader()
    for _ in range(2):
        move(house, elsewhere)
        house.settle()
    assert house.told("m", 1) == ["START", "LOADING", "AVAILABLE"]
    assert elsewhere.loads == 0
