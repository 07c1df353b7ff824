import pytest
from core_fakes import House

from pyserving.core.errors import ServingError


@pytest.fixture
def house() -> House:
    house = House()
    house.aspire("m", 1)
    house.settle()
    return house


def test_an_unload_waits_for_the_last_handle_without_taking_a_thread(house: House) -> None:
    first, second = house.manager.serving.acquire("m"), house.manager.serving.acquire("m", 1)
    house.aspire("m")
    assert house.told("m", 1)[-1] == "UNLOADING"
    first.release()
    assert house.steps.jobs == []
    assert second.servable.compute() == 42
    second.release()
    house.settle()
    assert house.told("m", 1)[-1] == "END"


def test_no_new_handle_is_given_on_a_version_that_is_going(house: House) -> None:
    with house.manager.serving.acquire("m"):
        house.aspire("m")
        with pytest.raises(ServingError):
            house.manager.serving.acquire("m")


def test_a_handle_released_twice_counts_once(house: House) -> None:
    first, second = house.manager.serving.acquire("m"), house.manager.serving.acquire("m")
    first.release()
    first.release()
    house.aspire("m")
    assert house.steps.jobs == []
    second.release()
    second.release()
    assert len(house.steps.jobs) == 1
    house.settle()
    first.release()
    assert house.steps.jobs == []
    assert house.loaders["m", 1].unloads == 1


def test_a_shared_handle_outlives_the_one_it_came_from(house: House) -> None:
    with house.manager.serving.acquire("m") as handle:
        house.aspire("m")
        shared = handle.share()
    assert house.steps.jobs == []
    assert (shared.id, shared.servable.compute()) == (handle.id, 42)
    shared.release()
    house.settle()
    assert house.told("m", 1)[-1] == "END"


def test_a_request_with_a_job_is_one_request(house: House) -> None:
    with house.manager.serving.acquire("m") as handle:
        shared = handle.share()
        assert list(house.manager.serving.handles_out().values()) == [2]
        assert list(house.manager.serving.requests_in_flight().values()) == [1]
    assert list(house.manager.serving.requests_in_flight().values()) == [0]
    shared.release()


def test_a_released_handle_cannot_be_shared(house: House) -> None:
    handle = house.manager.serving.acquire("m")
    handle.release()
    with pytest.raises(RuntimeError, match="was released"):
        handle.share()
    house.aspire("m")
    house.settle()
    assert house.told("m", 1)[-1] == "END"


def test_a_request_that_fails_releases_its_handle(house: House) -> None:
    def fail() -> None:
        with house.manager.serving.acquire("m"):
            house.aspire("m")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    house.settle()
    assert house.told("m", 1)[-1] == "END"
