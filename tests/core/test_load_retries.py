from core_fakes import BrokenLoader, FakeLoader, House

from pyserving.core.errors import Code, ServingError


def unavailable() -> ServingError:
    return ServingError(Code.UNAVAILABLE, "the bucket does not answer")


def test_a_failed_load_is_tried_again_after_the_interval() -> None:
    house = House(max_num_load_retries=2, load_retry_interval=60.0)
    loader = FakeLoader(unavailable(), unavailable())
    house.aspire("m", v1=loader)
    house.settle()
    house.clock.advance(59.9)
    house.settle()
    assert loader.loads == 1
    house.clock.advance(0.2)
    house.settle()
    assert loader.loads == 2
    house.clock.advance(60)
    house.settle()
    assert loader.loads == 3
    assert house.told("m", 1) == ["START", "LOADING", "AVAILABLE"]


def test_once_its_retries_are_used_up_a_version_ends_with_its_last_error() -> None:
    house = House(max_num_load_retries=2, load_retry_interval=1.0)
    loader = FakeLoader(ValueError("first"), ValueError("second"), unavailable())
    house.aspire("m", v1=loader)
    for _ in range(5):
        house.settle()
        house.clock.advance(1)
    assert loader.loads == 3
    assert house.told("m", 1) == ["START", "LOADING", "END"]
    assert house.error("m", 1) == "UNAVAILABLE: the bucket does not answer"


def test_no_retries_means_one_attempt() -> None:
    house = House(max_num_load_retries=0)
    loader = BrokenLoader(unavailable())
    house.aspire("m", v1=loader)
    house.settle()
    assert (loader.loads, house.told("m", 1)[-1]) == (1, "END")


def test_five_retries_a_minute_apart_are_the_default() -> None:
    house = House()
    loader = BrokenLoader(unavailable())
    house.aspire("m", v1=loader)
    house.settle()
    for _ in range(5):
        assert house.told("m", 1)[-1] == "LOADING"
        house.clock.advance(60)
        house.settle()
    assert (loader.loads, house.told("m", 1)[-1]) == (6, "END")


def test_a_version_that_waits_for_its_retry_takes_no_load_thread() -> None:
    house = House()
    house.aspire("m", v1=FakeLoader(unavailable()))
    house.settle()
    house.aspire("other", 1)
    house.settle()
    assert house.manager.serving.available("other") == [1]
    assert house.manager.serving.available("m") == []


def test_waiting_is_given_up_at_once_when_the_version_is_no_longer_aspired() -> None:
    house = House()
    loader = BrokenLoader(unavailable())
    house.aspire("m", v1=loader)
    house.settle()
    house.aspire("m")
    assert house.told("m", 1) == ["START", "LOADING", "END"]
    assert house.error("m", 1) == "UNAVAILABLE: the bucket does not answer"
    house.clock.advance(1000)
    house.settle()
    assert loader.loads == 1


def test_a_load_that_fails_after_its_version_was_dropped_is_not_tried_again() -> None:
    house = House()
    loader = BrokenLoader(unavailable())
    house.aspire("m", v1=loader)
    house.aspire("m")
    house.settle()
    house.clock.advance(1000)
    house.settle()
    assert (loader.loads, house.told("m", 1)[-1]) == (1, "END")


def test_a_version_that_comes_back_has_all_its_retries_again() -> None:
    house = House(max_num_load_retries=1, load_retry_interval=1.0)
    house.aspire("m", v1=BrokenLoader(unavailable()))
    house.settle()
    house.clock.advance(1)
    house.settle()
    house.aspire("m")
    house.aspire("m", v1=FakeLoader(unavailable()))
    house.settle()
    house.clock.advance(1)
    house.settle()
    assert house.manager.serving.available("m") == [1]


def test_what_is_not_fit_to_be_loaded_is_not_tried_again() -> None:
    house = House(max_num_load_retries=3)
    loader = BrokenLoader(ServingError(Code.FAILED_PRECONDITION, "it has state"))
    house.aspire("m", v1=loader)
    house.settle()
    assert (loader.loads, house.told("m", 1)[-1]) == (1, "END")
    assert house.error("m", 1) == "FAILED_PRECONDITION: it has state"
