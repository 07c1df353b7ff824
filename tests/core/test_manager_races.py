"""Real threads, fifty swaps: no request may miss a version, and none may use one that is going."""

import sys
import threading
from collections.abc import Iterator

import pytest
from core_fakes import FakeLoader

from pyserving.core.events import EventBus
from pyserving.core.manager import Manager
from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.servable import ServableId, ServableRequest
from pyserving.core.source import AspiredVersion
from pyserving.core.state import ServableState, State

NEXT = {
    None: {State.START},
    State.START: {State.LOADING, State.END},
    State.LOADING: {State.AVAILABLE, State.END},
    State.AVAILABLE: {State.UNLOADING},
    State.UNLOADING: {State.END},
    State.END: {State.START},
}


@pytest.fixture(autouse=True)
def _switch_threads_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("threads", [0, 3])
def test_requests_race_swaps(threads: int) -> None:
    bus = EventBus()
    monitor = ServableStateMonitor(bus)
    events: list[ServableState] = []
    bus.subscribe(events.append)
    manager = Manager(bus, num_load_threads=threads, num_unload_threads=threads)
    loaders = [FakeLoader() for _ in range(50)]

    def aspire(version: int) -> None:
        manager.set_aspired_versions("m", [AspiredVersion(ServableId("m", version), loaders[version])])
        monitor.wait_until_available([ServableRequest("m", version)], timeout=60)

    aspire(0)
    done = threading.Event()
    failures: list[BaseException] = []
    served = [0, 0, 0]

    def request(worker: int) -> None:
        try:
            while not done.is_set():
                with manager.serving.acquire("m") as handle:
                    shared = handle.share()
                    handle.servable.compute()
                shared.servable.compute()
                shared.release()
                served[worker] += 1
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=request, args=(worker,)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for version in range(1, 50):
        aspire(version)
    done.set()
    for worker in workers:
        worker.join(60)

    assert failures == []
    assert all(served)
    assert manager.serving.available("m") == [49]
    assert manager.stop(grace=60)
    assert [(loader.loads, loader.unloads) for loader in loaders] == [(1, 1)] * 50
    last: dict[ServableId, State] = {}
    for event in events:
        assert event.state in NEXT[last.get(event.id)], event
        last[event.id] = event.state
    assert set(last.values()) == {State.END}


def test_sources_race_on_many_streams() -> None:
    bus = EventBus()
    monitor = ServableStateMonitor(bus)
    manager = Manager(bus, num_load_threads=2, num_unload_threads=2)

    def aspire(name: str) -> None:
        for round_ in range(20):
            ids = [ServableId(name, version) for version in range(round_, round_ + 3)]
            manager.set_aspired_versions(name, [AspiredVersion(servable_id, FakeLoader()) for servable_id in ids])

    names = [f"m{number}" for number in range(5)]
    sources = [threading.Thread(target=aspire, args=(name,)) for name in names]
    for source in sources:
        source.start()
    for source in sources:
        source.join(60)
    wanted = [ServableRequest(name, version) for name in names for version in (19, 20, 21)]
    states = monitor.wait_until_available(wanted, timeout=60)
    assert {state.state for state in states} == {State.AVAILABLE}
    assert manager.stop(grace=60)
