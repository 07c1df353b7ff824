import threading

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.core.events import EventBus
from pyserving.core.monitor import ServableStateMonitor, require_available
from pyserving.core.servable import ServableId, ServableRequest
from pyserving.core.state import ServableState, State

BAD_FILE = ServingError(Code.DATA_LOSS, "Can't parse /models/b/1/saved_model.pb as binary proto")


class World:
    def __init__(self) -> None:
        self.bus = EventBus()
        self.monitor = ServableStateMonitor(self.bus)

    def tell(self, name: str, version: int, state: State, error: ServingError | None = None) -> None:
        self.bus.post(ServableState(ServableId(name, version), state, 0.0, error))
        self.bus.deliver()

    def reached(self, *requests: ServableRequest, since: int = 0) -> list[tuple[int, State]] | None:
        """None where it would have to wait."""
        try:
            states = self.monitor.wait_until_available(requests, since=since, timeout=0)
        except ServingError as error:
            if error.code is Code.DEADLINE_EXCEEDED:
                return None
            raise
        return [(state.id.version, state.state) for state in states]


@pytest.fixture
def world() -> World:
    return World()


def test_it_keeps_the_last_state_of_every_version(world: World) -> None:
    world.tell("m", 2, State.START)
    world.tell("m", 10, State.START)
    world.tell("m", 2, State.END, BAD_FILE)
    world.tell("a", 1, State.LOADING)
    assert [(s.id.version, s.state) for s in world.monitor.states("m")] == [(10, State.START), (2, State.END)]
    assert world.monitor.names() == ["a", "m"]
    assert world.monitor.states("other") == []
    state = world.monitor.state(ServableId("m", 2))
    assert state is not None
    assert state.error is BAD_FILE
    assert world.monitor.state(ServableId("m", 3)) is None


def test_a_specific_version_is_reached_when_it_is_available_or_ended(world: World) -> None:
    request = ServableRequest("m", 2)
    assert world.reached(request) is None
    world.tell("m", 1, State.AVAILABLE)
    world.tell("m", 2, State.LOADING)
    assert world.reached(request) is None
    world.tell("m", 2, State.AVAILABLE)
    assert world.reached(request) == [(2, State.AVAILABLE)]
    world.tell("m", 2, State.UNLOADING)
    assert world.reached(request) is None
    world.tell("m", 2, State.END)
    assert world.reached(request) == [(2, State.END)]


def test_the_latest_is_the_highest_version_that_came_to_something(world: World) -> None:
    request = ServableRequest("m")
    assert world.reached(request) is None
    world.tell("m", 1, State.AVAILABLE)
    world.tell("m", 2, State.LOADING)
    assert world.reached(request) == [(1, State.AVAILABLE)]
    world.tell("m", 2, State.END, BAD_FILE)
    assert world.reached(request) == [(2, State.END)]


def test_a_version_unloaded_for_another_does_not_count_while_the_other_loads(world: World) -> None:
    world.tell("m", 1, State.END)
    world.tell("m", 2, State.LOADING)
    assert world.reached(ServableRequest("m")) is None
    world.tell("m", 2, State.END)
    assert world.reached(ServableRequest("m")) == [(2, State.END)]


def test_an_end_from_before_the_mark_is_history(world: World) -> None:
    request = ServableRequest("m")
    world.tell("m", 1, State.END, BAD_FILE)
    mark = world.monitor.mark()
    assert world.reached(request, since=mark) is None
    assert world.reached(request) == [(1, State.END)]
    world.tell("m", 1, State.START)
    assert world.reached(request, since=mark) is None
    world.tell("m", 1, State.AVAILABLE)
    assert world.reached(request, since=world.monitor.mark()) == [(1, State.AVAILABLE)]


def test_waiting_ends_with_the_last_of_all_requests(world: World) -> None:
    states: list[ServableState] = []
    requests = [ServableRequest("a"), ServableRequest("b", 3)]
    waiter = threading.Thread(target=lambda: states.extend(world.monitor.wait_until_available(requests, timeout=60)))
    waiter.start()
    world.tell("b", 3, State.AVAILABLE)
    world.tell("a", 1, State.AVAILABLE)
    waiter.join(60)
    assert [state.id for state in states] == [ServableId("a", 1), ServableId("b", 3)]


def test_a_timeout_names_what_is_missing(world: World) -> None:
    world.tell("a", 1, State.AVAILABLE)
    requests = [ServableRequest("a"), ServableRequest("b"), ServableRequest("c", 4)]
    with pytest.raises(ServingError, match=r"within 0 seconds: Latest\(b\), Specific\(c, 4\)$"):
        world.monitor.wait_until_available(requests, timeout=0)


def test_nothing_asked_is_reached_at_once(world: World) -> None:
    assert world.monitor.wait_until_available([]) == []


def test_what_did_not_become_available_is_named_with_its_error() -> None:
    available = ServableState(ServableId("a", 1), State.AVAILABLE, 0.0)
    broken = ServableState(ServableId("b", 1), State.END, 0.0, BAD_FILE)
    gone = ServableState(ServableId("a", 7), State.END, 0.0)
    require_available([available])
    with pytest.raises(ServingError) as one:
        require_available([available, broken])
    assert one.value.code is Code.UNKNOWN
    assert one.value.message == (
        "1 servable(s) did not become available: {{{name: b version: 1} due to error: "
        "DATA_LOSS: Can't parse /models/b/1/saved_model.pb as binary proto}, }"
    )
    with pytest.raises(ServingError) as two:
        require_available([broken, gone])
    assert two.value.message.startswith("2 servable(s) did not become available: {{{name: a version: 7}}, {{name: b ")
