import threading

import pytest
from core_fakes import FakeLoader, FakeServable, House

from pyserving.core.errors import Code, ServingError
from pyserving.core.events import EventBus
from pyserving.core.manager import Manager
from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.servable import ServableId, ServableRequest
from pyserving.core.source import AspiredVersion
from pyserving.core.state import State


def aspire(manager: Manager, loader: FakeLoader) -> None:
    manager.set_aspired_versions("m", [AspiredVersion(ServableId("m", 1), loader)])


def test_stop_unloads_everything_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    bus = EventBus()
    monitor = ServableStateMonitor(bus)
    manager = Manager(bus)
    loader = FakeLoader()
    aspire(manager, loader)
    monitor.wait_until_available([ServableRequest("m")])
    assert manager.stop(grace=60)
    assert loader.unloads == 1
    assert [state.state for state in monitor.states("m")] == [State.END]
    assert set(threading.enumerate()) <= before


def test_stop_waits_for_handles() -> None:
    bus = EventBus()
    monitor = ServableStateMonitor(bus)
    manager = Manager(bus)
    loader = FakeLoader()
    draining = threading.Event()
    bus.subscribe(lambda event: draining.set() if event.state is State.UNLOADING else None)
    aspire(manager, loader)
    monitor.wait_until_available([ServableRequest("m")])
    handle = manager.serving.acquire("m")
    stopped: list[bool] = []
    stopper = threading.Thread(target=lambda: stopped.append(manager.stop(grace=60)))
    stopper.start()
    assert draining.wait(60)
    assert handle.servable.compute() == 42
    assert loader.unloads == 0
    handle.release()
    stopper.join(60)
    assert (stopped, loader.unloads) == ([True], 1)


def test_stop_gives_up_after_the_grace_time_and_names_what_is_held(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.aspire("m", 1)
    house.settle()
    handle = house.manager.serving.acquire("m")
    assert not house.manager.stop(grace=0)
    assert "{name: m version: 1} (draining)" in caplog.text
    handle.release()
    house.settle()
    assert house.loaders["m", 1].unloads == 1
    assert house.manager.stop(grace=0)


def test_stop_lets_a_load_end_and_unloads_what_it_loaded() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class SlowLoader(FakeLoader):
        def load(self) -> FakeServable:
            begun.set()
            assert go_on.wait(60)
            return super().load()

    manager = Manager(EventBus())
    loader = SlowLoader()
    aspire(manager, loader)
    assert begun.wait(60)
    assert not manager.stop(grace=0)
    go_on.set()
    assert manager.stop(grace=60)
    assert (loader.loads, loader.unloads) == (1, 1)


def test_stop_gives_up_what_waits_and_takes_no_more() -> None:
    house = House()
    house.aspire("m", v1=FakeLoader(ServingError(Code.UNAVAILABLE, "not yet")), v2=FakeLoader())
    house.steps.take()
    house.steps.take()
    assert house.manager.serving.available("m") == [2]
    assert not house.manager.stop(grace=0)
    house.settle()
    assert house.manager.stop(grace=0)
    assert (house.told("m", 1)[-1], house.told("m", 2)[-1]) == ("END", "END")
    house.aspire("m", 3)
    assert house.told("m", 3) == []


def test_a_manager_without_versions_stops_at_once() -> None:
    assert Manager(EventBus()).stop(grace=0)
