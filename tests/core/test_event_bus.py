import pytest

from pyserving.core.events import EventBus
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State


def event(version: int) -> ServableState:
    return ServableState(ServableId("m", version), State.START, when=0.0)


def test_every_listener_hears_every_event_in_order() -> None:
    bus = EventBus()
    heard: list[tuple[str, int]] = []
    bus.subscribe(lambda e: heard.append(("first", e.id.version)))
    bus.subscribe(lambda e: heard.append(("second", e.id.version)))
    bus.post(event(1))
    bus.post(event(2))
    assert heard == []
    bus.deliver()
    assert heard == [("first", 1), ("second", 1), ("first", 2), ("second", 2)]


def test_a_listener_that_raises_is_logged_and_harms_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    heard: list[int] = []

    def broken(_: ServableState) -> None:
        raise ValueError("broken listener")

    bus.subscribe(broken)
    bus.subscribe(lambda e: heard.append(e.id.version))
    bus.post(event(1))
    bus.post(event(2))
    bus.deliver()
    assert heard == [1, 2]
    assert caplog.text.count("ValueError: broken listener") == 2


def test_what_a_listener_posts_comes_after_what_was_posted_before() -> None:
    bus = EventBus()
    heard: list[int] = []

    def echo(e: ServableState) -> None:
        heard.append(e.id.version)
        if e.id.version < 10:
            bus.post(event(e.id.version + 10))
            bus.deliver()

    bus.subscribe(echo)
    bus.post(event(1))
    bus.post(event(2))
    bus.deliver()
    assert heard == [1, 2, 11, 12]


def test_an_event_posted_while_another_thread_ends_its_delivery_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = EventBus()
    heard: list[int] = []
    bus.subscribe(lambda e: heard.append(e.id.version))

    class LockReleasedTooLate:
        """Between the deliverer's last look and its release, another thread posts, and finds the lock taken."""

        def acquire(self, *, blocking: bool) -> bool:
            return True

        def release(self) -> None:
            if heard == [1]:
                bus.post(event(2))

    monkeypatch.setattr(bus, "_delivering", LockReleasedTooLate())
    bus.post(event(1))
    bus.deliver()
    assert heard == [1, 2]
