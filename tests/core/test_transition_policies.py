import pytest
from core_fakes import House

from pyserving.core.phase import Phase
from pyserving.core.transition_policy import (
    AvailabilityPreserving,
    Load,
    ResourcePreserving,
    StreamVersion,
    TransitionPolicy,
    Unload,
)


def aspired(version: int, phase: Phase) -> StreamVersion:
    return StreamVersion(version, phase, True)


def left_over(version: int, phase: Phase) -> StreamVersion:
    return StreamVersion(version, phase, False)


@pytest.mark.parametrize(
    ("versions", "action"),
    [
        pytest.param([], None, id="an empty stream"),
        pytest.param([aspired(1, Phase.NEW), aspired(2, Phase.NEW)], Load(2), id="the highest new one first"),
        pytest.param([aspired(1, Phase.NEW), aspired(2, Phase.LOADING)], Load(1), id="loads may run side by side"),
        pytest.param([left_over(1, Phase.READY), aspired(2, Phase.NEW)], Load(2), id="load before unload"),
        pytest.param([left_over(1, Phase.READY), aspired(2, Phase.LOADING)], None, id="wait for the new one"),
        pytest.param(
            [left_over(1, Phase.READY), aspired(2, Phase.WAITING)], None, id="keep it while the new one fails"
        ),
        pytest.param([left_over(1, Phase.READY), aspired(2, Phase.ENDED)], None, id="keep it when the new one failed"),
        pytest.param([left_over(1, Phase.READY), aspired(2, Phase.READY)], Unload(1), id="the new one serves"),
        pytest.param(
            [left_over(1, Phase.READY), aspired(2, Phase.READY), aspired(3, Phase.NEW)], Unload(1), id="unload first"
        ),
        pytest.param([left_over(4, Phase.READY), aspired(2, Phase.READY)], Unload(4), id="back to a lower one"),
        pytest.param([left_over(1, Phase.READY)], Unload(1), id="nothing is aspired"),
        pytest.param(
            [left_over(1, Phase.READY), left_over(2, Phase.READY), aspired(3, Phase.NEW)],
            Unload(1),
            id="one left over is enough",
        ),
        pytest.param([left_over(1, Phase.DRAINING), aspired(2, Phase.NEW)], Load(2), id="what is going is no matter"),
        pytest.param(
            [left_over(3, Phase.READY), aspired(4, Phase.UNLOADING)], None, id="keep it for one that is to come back"
        ),
    ],
)
def test_availability_preserving(versions: list[StreamVersion], action: Load | Unload | None) -> None:
    assert AvailabilityPreserving().next_action(versions) == action


@pytest.mark.parametrize(
    ("versions", "action"),
    [
        pytest.param([], None, id="an empty stream"),
        pytest.param([aspired(1, Phase.NEW), aspired(2, Phase.NEW)], Load(2), id="the highest new one first"),
        pytest.param([left_over(1, Phase.READY), aspired(2, Phase.NEW)], Unload(1), id="unload before load"),
        pytest.param([left_over(1, Phase.DRAINING), aspired(2, Phase.NEW)], None, id="wait until it has drained"),
        pytest.param([left_over(1, Phase.UNLOADING), aspired(2, Phase.NEW)], None, id="wait until it is gone"),
        pytest.param([aspired(1, Phase.UNLOADING), aspired(2, Phase.NEW)], None, id="wait though it is to come back"),
        pytest.param([left_over(1, Phase.LOADING), aspired(2, Phase.NEW)], None, id="wait for a load not wanted"),
        pytest.param([left_over(1, Phase.ENDED), aspired(2, Phase.NEW)], Load(2), id="what ended takes no memory"),
        pytest.param([aspired(1, Phase.READY), aspired(2, Phase.NEW)], Load(2), id="keep what is aspired"),
        pytest.param([left_over(1, Phase.READY)], Unload(1), id="nothing is aspired"),
    ],
)
def test_resource_preserving(versions: list[StreamVersion], action: Load | Unload | None) -> None:
    assert ResourcePreserving().next_action(versions) == action


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (AvailabilityPreserving(), ["2 START", "2 LOADING", "2 AVAILABLE", "1 UNLOADING", "1 END"]),
        (ResourcePreserving(), ["2 START", "1 UNLOADING", "1 END", "2 LOADING", "2 AVAILABLE"]),
    ],
    ids=["availability", "resource"],
)
def test_the_manager_swaps_versions_in_the_order_of_its_policy(policy: TransitionPolicy, told: list[str]) -> None:
    house = House(policy=policy)
    house.aspire("m", 1)
    house.settle()
    house.events.clear()
    house.aspire("m", 2)
    house.settle()
    assert [f"{event.id.version} {event.state.name}" for event in house.events] == told
