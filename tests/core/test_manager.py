import gc
import logging
import weakref

import pytest
from core_fakes import BrokenLoader, FakeLoader, House

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.core.source import AspiredVersion
from pyserving.core.state import ServableState, State

WHOLE_LIFE = ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


@pytest.mark.parametrize(
    ("version", "text"),
    [(None, "Servable not found for request: Latest(m)"), (3, "Servable not found for request: Specific(m, 3)")],
)
def test_what_is_not_available_is_not_found(version: int | None, text: str) -> None:
    house = House()
    house.aspire("m", 1, v3=BrokenLoader(ServingError(Code.DATA_LOSS, "bad file")))
    with pytest.raises(ServingError) as caught:
        house.manager.serving.acquire("m", version)
    assert (caught.value.code, caught.value.message) == (Code.NOT_FOUND, text)


def test_a_version_goes_through_its_life_in_order() -> None:
    house = House()
    house.aspire("m", 1)
    assert house.told("m", 1) == ["START", "LOADING"]
    house.settle()
    assert house.told("m", 1) == ["START", "LOADING", "AVAILABLE"]
    house.aspire("m")
    house.settle()
    assert house.told("m", 1) == WHOLE_LIFE
    assert house.error("m", 1) == ""
    assert house.loaders["m", 1].unloads == 1


def test_events_tell_only_what_is_so() -> None:
    house = House()
    seen: list[tuple[State, bool]] = []
    house.bus.subscribe(lambda event: seen.append((event.state, house.manager.serving.is_available(event.id))))
    house.aspire("m", 1)
    house.settle()
    house.aspire("m")
    house.settle()
    assert [state for state, findable in seen if findable] == [State.AVAILABLE]


def test_a_listener_may_call_the_manager() -> None:
    house = House()

    def add_another(event: ServableState) -> None:
        if event.state is State.AVAILABLE and event.id.name == "first":
            house.aspire("second", 1)

    house.bus.subscribe(add_another)
    house.aspire("first", 1)
    house.settle()
    assert sorted(house.manager.serving.handles_out()) == [ServableId("first", 1), ServableId("second", 1)]


def test_latest_is_the_highest_available_version() -> None:
    house = House()
    house.aspire("m", 2, 10, v11=BrokenLoader(ServingError(Code.DATA_LOSS, "bad file")))
    house.settle()
    with house.manager.serving.acquire("m") as latest, house.manager.serving.acquire("m", 2) as specific:
        assert (latest.id, specific.id) == (ServableId("m", 10), ServableId("m", 2))
        assert latest.servable.compute() == 42
    assert house.manager.serving.available("m") == [10, 2]
    assert house.manager.serving.available("other") == []


def test_ten_versions_at_once_load_one_after_the_other_from_the_highest() -> None:
    house = House()
    house.aspire("m", *range(1, 11))
    loading = []
    while house.steps.jobs:
        assert len(house.steps.jobs) == 1
        loading += [e.id.version for e in house.events if e.state is State.LOADING and e.id.version not in loading]
        house.steps.take()
    assert loading == list(range(10, 0, -1))
    assert house.manager.serving.available("m") == list(range(10, 0, -1))


def test_as_many_loads_run_at_once_as_there_are_threads() -> None:
    house = House(num_load_threads=3)
    house.aspire("m", *range(1, 11))
    assert len(house.steps.jobs) == 3
    house.steps.take()
    assert len(house.steps.jobs) == 3
    house.manager.set_num_load_threads(5)
    assert len(house.steps.jobs) == 5
    house.settle()
    assert len(house.manager.serving.available("m")) == 10


def test_as_many_unloads_run_at_once_as_there_are_threads() -> None:
    house = House(num_load_threads=4, num_unload_threads=2)
    house.aspire("m", 1, 2, 3, 4)
    house.settle()
    house.aspire("m")
    assert len(house.steps.jobs) == 2
    house.settle()
    assert [house.loaders["m", version].unloads for version in (1, 2, 3, 4)] == [1, 1, 1, 1]


def test_a_stream_with_many_versions_does_not_keep_another_waiting() -> None:
    house = House()
    house.aspire("many", *range(1, 11))
    house.aspire("one", 1)
    for _ in range(3):
        house.steps.take()
    assert house.manager.serving.available("one") == [1]


def test_a_version_that_came_while_others_wait_is_chosen_by_the_policy() -> None:
    house = House()
    house.aspire("m", 1, 2, 3)
    house.aspire("m", 1, 2, 3, 9)
    house.steps.take()
    house.steps.take()
    assert house.manager.serving.available("m") == [9, 3]


def test_a_new_version_that_fails_leaves_the_old_one_serving() -> None:
    house = House(max_num_load_retries=0)
    house.aspire("m", 1)
    house.settle()
    house.aspire("m", v2=BrokenLoader(ServingError(Code.DATA_LOSS, "bad file")))
    house.settle()
    assert house.manager.serving.available("m") == [1]
    assert house.told("m", 2) == ["START", "LOADING", "END"]
    assert house.error("m", 2) == "DATA_LOSS: bad file"
    house.aspire("m", 3)
    house.settle()
    assert house.manager.serving.available("m") == [3]


def test_a_version_that_fails_is_tried_again_only_after_it_was_gone() -> None:
    house = House(max_num_load_retries=0)
    broken = BrokenLoader(ServingError(Code.DATA_LOSS, "bad file"))
    house.aspire("m", v1=broken)
    house.settle()
    house.aspire("m", 1)
    house.settle()
    assert (broken.loads, house.manager.serving.available("m")) == (1, [])
    house.aspire("m")
    house.aspire("m", 1)
    house.settle()
    assert house.manager.serving.available("m") == [1]


def test_a_version_that_disappears_and_comes_back_is_loaded_again() -> None:
    house = House()
    house.aspire("m", 1)
    house.settle()
    house.aspire("m")
    house.settle()
    house.aspire("m", 1)
    house.settle()
    assert house.told("m", 1) == WHOLE_LIFE + WHOLE_LIFE[:3]


def test_a_version_aspired_again_while_it_unloads_is_loaded_anew_once_it_is_gone() -> None:
    house = House()
    house.aspire("m", 1)
    house.settle()
    house.aspire("m")
    house.aspire("m", 1)
    assert house.told("m", 1) == WHOLE_LIFE[:4]
    house.settle()
    assert house.told("m", 1) == WHOLE_LIFE + WHOLE_LIFE[:3]
    assert house.loaders["m", 1].unloads == 1


def test_while_a_version_is_to_come_back_another_that_is_loaded_serves() -> None:
    house = House()
    house.aspire("m", 3, 4)
    house.steps.take()
    house.aspire("m")
    house.aspire("m", 4)
    house.steps.take()
    assert (house.told("m", 4)[-1], house.manager.serving.available("m")) == ("UNLOADING", [3])
    house.settle()
    assert (house.told("m", 3)[-1], house.manager.serving.available("m")) == ("END", [4])


def test_of_what_is_aspired_while_a_version_unloads_the_last_word_counts() -> None:
    house = House()
    house.aspire("m", 1)
    house.settle()
    house.aspire("m")
    house.aspire("m", 1)
    house.aspire("m")
    house.settle()
    assert house.told("m", 1) == WHOLE_LIFE


def test_a_version_that_serves_is_not_loaded_again_when_it_is_aspired_again() -> None:
    house = House(max_num_load_retries=0)
    house.aspire("m", 1)
    house.settle()
    house.aspire("m", v2=BrokenLoader(ServingError(Code.DATA_LOSS, "bad file")))
    house.settle()
    house.aspire("m", 1)
    house.settle()
    assert house.told("m", 1) == ["START", "LOADING", "AVAILABLE"]


def test_a_version_no_longer_aspired_before_its_load_began_is_never_loaded() -> None:
    house = House()
    house.aspire("m", 1, 2)
    waiting = house.loaders["m", 1]
    house.aspire("m", 2)
    house.settle()
    assert house.told("m", 1) == ["START", "END"]
    assert (waiting.loads, house.error("m", 1)) == (0, "")


def test_a_version_no_longer_aspired_during_its_load_is_unloaded_after_it() -> None:
    house = House()
    house.aspire("m", 1)
    house.aspire("m")
    house.settle()
    assert house.told("m", 1) == WHOLE_LIFE


def test_a_version_aspired_again_during_its_load_serves() -> None:
    house = House()
    house.aspire("m", 1)
    house.aspire("m")
    house.aspire("m", 1)
    house.settle()
    assert house.told("m", 1) == ["START", "LOADING", "AVAILABLE"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such layer"), "INTERNAL: ValueError: no such layer"),
        (SystemExit(3), "INTERNAL: SystemExit: 3"),
        (MemoryError(), "INTERNAL: MemoryError: "),
    ],
)
def test_an_odd_exception_in_load_is_internal_and_logged(
    error: BaseException, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(max_num_load_retries=0)
    house.aspire("m", v1=BrokenLoader(error))
    house.settle()
    assert house.error("m", 1) == text
    assert any(record.exc_info for record in caplog.records if record.name == "pyserving.core")


def test_an_odd_exception_in_estimate_resources_is_internal() -> None:
    class Loader(FakeLoader):
        def estimate_resources(self) -> None:  # type: ignore[override]
            raise KeyError("size")

    house = House(max_num_load_retries=0)
    house.aspire("m", v1=Loader())
    house.settle()
    assert house.error("m", 1) == "INTERNAL: KeyError: 'size'"
    assert house.loaders["m", 1].loads == 0


def test_an_odd_exception_in_unload_ends_the_version_all_the_same() -> None:
    class Loader(FakeLoader):
        def unload(self) -> None:
            raise OSError("device lost")

    house = House()
    house.aspire("m", v1=Loader())
    house.settle()
    house.aspire("m", 2)
    house.settle()
    assert house.told("m", 1) == WHOLE_LIFE
    assert house.error("m", 1) == "INTERNAL: OSError: device lost"
    assert house.manager.serving.available("m") == [2]


def test_versions_of_another_name_are_refused() -> None:
    house = House()
    with pytest.raises(ValueError, match="Expected versions of m"):
        house.manager.set_aspired_versions("m", [AspiredVersion(ServableId("n", 1), FakeLoader())])
    assert house.events == []


def test_when_the_machine_has_no_thread_to_give_the_next_word_of_the_source_tries_again() -> None:
    house = House()
    spawn = house.steps.spawn

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    house.steps.spawn = refuse  # type: ignore[assignment, method-assign]
    with pytest.raises(RuntimeError):
        house.aspire("m", 1)
    house.steps.spawn = spawn  # type: ignore[method-assign]
    house.aspire("m", 1)
    house.settle()
    assert house.told("m", 1) == ["START", "LOADING", "AVAILABLE"]


def test_an_unloaded_servable_leaves_memory_without_waiting_for_the_garbage_collector() -> None:
    house = House()
    house.aspire("m", 1)
    house.settle()
    with house.manager.serving.acquire("m") as handle:
        servable = weakref.ref(handle.servable)
    del handle
    house.loaders.clear()
    gc.disable()
    try:
        house.aspire("m")
        house.settle()
        assert servable() is None
    finally:
        gc.enable()


def test_what_ended_is_not_kept_in_memory(caplog: pytest.LogCaptureFixture) -> None:
    # pytest keeps log records, and those of tracebacks all that is on the stack.
    caplog.set_level(logging.CRITICAL, "pyserving.core")
    house = House(max_num_load_retries=0)
    broken = BrokenLoader(ServingError(Code.DATA_LOSS, "bad file"))
    odd = BrokenLoader(ValueError("no such layer"))
    good = FakeLoader()
    house.aspire("broken", v1=broken)
    house.aspire("odd", v1=odd)
    house.aspire("good", v1=good)
    house.settle()
    handle = house.manager.serving.acquire("good")
    handle.release()
    house.aspire("good")
    house.settle()
    # Two of them stay aspired, and so known to the manager.
    left = [weakref.ref(thing) for thing in (broken, odd, good, good.servable)]
    house.loaders.clear()
    del broken, odd, good, handle
    gc.collect()
    assert [ref() for ref in left] == [None] * 4


def test_the_default_version_stays_where_it_is_directed() -> None:
    house = House()
    serving = house.manager.serving
    house.aspire("m", 1)
    house.settle()
    serving.direct("m", 1)
    house.aspire("m", 1, 2)
    house.settle()
    with serving.acquire("m") as default, serving.acquire("m", 2) as new:
        assert (default.id.version, new.id.version) == (1, 2)
    serving.direct("m", 2)
    assert serving.default("m") == 2
    house.aspire("m", 1)
    house.settle()
    assert serving.default("m") is None
    with pytest.raises(ServingError):
        serving.acquire("m")
    serving.direct("m", None)
    assert serving.default("m") == 1
