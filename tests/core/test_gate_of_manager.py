"""What a manager does with versions that a gate looks at before they are available."""

import pytest
from core_fakes import FakeLoader, House

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle, ServedVersion
from pyserving.core.servable import ServableId
from pyserving.core.state import State


class FakeGate:
    """Refuses with the errors given, by version; a version may do something first."""

    def __init__(self, **refusals: ServingError) -> None:
        self.refusals = {int(key[1:]): error for key, error in refusals.items()}
        self.checked: list[int] = []
        self.given_up: list[ServableId] = []
        self.handles: list[ServableHandle] = []
        self.keeps_handles = False
        self.during = lambda: None

    def check(self, version: ServedVersion) -> None:
        self.checked.append(version.id.version)
        handle = version.hold()
        assert handle is not None
        assert handle.servable.compute() == 42
        try:
            self.during()
        finally:
            if self.keeps_handles:
                self.handles.append(handle)
            else:
                handle.release()
        if refusal := self.refusals.get(version.id.version):
            raise refusal

    def give_up(self, servable_id: ServableId) -> None:
        self.given_up.append(servable_id)
        self.refusals[servable_id.version] = ServingError(Code.CANCELLED, "wanted no more")


WRONG = ServingError(Code.FAILED_PRECONDITION, "wrong answers")


def test_requests_reach_a_version_only_after_it_was_checked() -> None:
    gate = FakeGate()
    house = House(gate=gate)
    seen = []
    gate.during = lambda: seen.append((house.told("m", 1), house.manager.serving.available("m")))
    house.aspire("m", 1)
    house.settle()
    assert seen == [(["START", "LOADING"], [])]
    assert house.told("m", 1) == ["START", "LOADING", "AVAILABLE"]
    assert gate.checked == [1]


def test_a_refused_version_ends_with_the_reason_and_the_old_one_serves_on() -> None:
    gate = FakeGate(v2=WRONG)
    house = House(gate=gate)
    house.aspire("m", 1)
    house.settle()
    house.aspire("m", 2)
    house.settle()
    assert house.told("m", 2) == ["START", "LOADING", "END"]
    assert house.error("m", 2) == str(WRONG)
    assert house.loaders["m", 2].unloads == 1
    with house.manager.serving.acquire("m") as handle:
        assert handle.id.version == 1
    house.aspire("m", 2)
    house.clock.advance(1000)
    house.settle()
    assert gate.checked == [1, 2], "it is not tried again"
    house.aspire("m", 3)
    house.settle()
    assert house.told("m", 1)[-1] == "END"
    assert house.manager.serving.available("m") == [3]


def test_what_it_reserved_is_given_back() -> None:
    house = House(gate=FakeGate(v1=WRONG))
    house.aspire("m", v1=FakeLoader(need=100))
    house.settle()
    assert house.manager.resources.used.ram_bytes == 0


def test_an_exception_that_is_no_refusal_refuses_too() -> None:
    gate = FakeGate()
    house = House(gate=gate)

    def fail() -> None:
        raise ZeroDivisionError("of a check")

    gate.during = fail
    house.aspire("m", 1)
    house.settle()
    assert house.error("m", 1) == "INTERNAL: ZeroDivisionError: of a check"
    assert house.loaders["m", 1].unloads == 1


def test_other_loads_go_on_while_a_version_is_checked() -> None:
    gate = FakeGate()
    house = House(gate=gate)
    house.aspire("slow", 1)

    def load_another() -> None:
        gate.during = lambda: None
        house.aspire("other", 1)
        house.settle()

    gate.during = load_another
    house.steps.take()
    assert [event.id.name for event in house.events if event.state is State.AVAILABLE] == ["other", "slow"]


@pytest.mark.parametrize("stops", [False, True])
def test_a_version_that_is_wanted_no_more_ends_without_an_error(stops: bool) -> None:
    gate = FakeGate()
    house = House(gate=gate)
    house.aspire("m", 1)
    gate.during = lambda: house.manager.stop(0) and None if stops else house.aspire("m")
    house.settle()
    assert gate.given_up == [ServableId("m", 1)]
    assert house.told("m", 1) == ["START", "LOADING", "END"]
    assert house.error("m", 1) == ""
    assert house.loaders["m", 1].unloads == 1


def test_a_version_wanted_again_while_its_check_ends_is_loaded_anew() -> None:
    gate = FakeGate()
    house = House(gate=gate)
    house.aspire("m", 1)
    first = house.loaders["m", 1]

    def change_mind() -> None:
        gate.during = lambda: None
        house.aspire("m")
        gate.refusals.clear()
        house.aspire("m", v1=FakeLoader())

    gate.during = change_mind
    house.settle()
    assert house.told("m", 1) == ["START", "LOADING", "END", "START", "LOADING", "AVAILABLE"]
    assert (first.loads, first.unloads) == (1, 1)


def test_a_refused_version_is_unloaded_when_the_last_run_of_its_check_has_ended() -> None:
    gate = FakeGate(v1=WRONG)
    gate.keeps_handles = True
    house = House(gate=gate)
    house.aspire("m", 1)
    house.settle()
    assert house.told("m", 1) == ["START", "LOADING"]
    house.aspire("m", 1)
    gate.handles[0].release()
    house.settle()
    assert house.told("m", 1) == ["START", "LOADING", "END"]
    assert house.error("m", 1) == str(WRONG)
    assert gate.checked == [1], "aspired all the time, it was not loaded anew"


def test_a_load_that_failed_before_it_succeeded_leaves_no_error() -> None:
    house = House(gate=FakeGate(), load_retry_interval=5.0)
    house.aspire("m", v1=FakeLoader(ServingError(Code.UNAVAILABLE, "later")))
    house.settle()
    house.clock.advance(5)
    house.settle()
    assert house.told("m", 1)[-1] == "AVAILABLE"
    house.aspire("m")
    house.settle()
    assert (house.told("m", 1)[-1], house.error("m", 1)) == ("END", "")
