"""Random lives within a memory budget: requests get what they ask for, and no more is loaded than the budget allows."""

from contextlib import suppress

from core_fakes import FakeLoader, House
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle
from pyserving.core.residency import LOOK_AGAIN, Residency, Stay
from pyserving.core.resources import Resources, ResourceTracker
from pyserving.core.servable import ServableId
from pyserving.core.state import State

NAMES = st.sampled_from(["a", "b", "c"])
STAYS = st.sampled_from([Stay(), Stay(lazy=True)])
BUDGET = 4


class Lives(RuleBasedStateMachine):
    @initialize(threads=st.integers(1, 3), stays=st.lists(STAYS, min_size=3, max_size=3), pins=st.booleans())
    def build(self, threads: int, stays: list[Stay], pins: bool) -> None:
        residency = Residency(evicts=True)
        self.house = House(
            num_load_threads=threads,
            max_num_load_retries=0,
            load_retry_interval=1.0,
            residency=residency,
            resources=ResourceTracker(Resources(BUDGET)),
        )
        self.house.manager.set_stays(dict(zip("abc", stays, strict=True)) | {"p": Stay(pinned=pins)})
        self.house.aspire("p", v1=FakeLoader(need=1))
        self.handles: list[ServableHandle] = []
        self.aspired: dict[str, set[int]] = {}

    @rule(name=NAMES, versions=st.sets(st.integers(1, 2)), fails=st.booleans())
    def aspire(self, name: str, versions: set[int], fails: bool) -> None:
        failures = [ServingError(Code.UNAVAILABLE, "not yet")] if fails else []
        self.aspired[name] = versions
        self.house.aspire(name, **{f"v{version}": FakeLoader(*failures, need=1) for version in versions})

    @rule(name=NAMES | st.just("p"))
    def ask(self, name: str) -> None:
        try:
            self.handles.append(self.house.manager.serving.acquire(name))
        except ServingError:
            with suppress(ServingError):  # its load failed not long ago
                self.house.manager.wake(name)

    @precondition(lambda self: self.house.steps.jobs)
    @rule(data=st.data())
    def take_a_step(self, data: st.DataObject) -> None:
        self.house.steps.take(data.draw(st.integers(0, len(self.house.steps.jobs) - 1)))

    @rule(seconds=st.sampled_from([LOOK_AGAIN, 2.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.house.clock.advance(seconds)

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.handles.pop(data.draw(st.integers(0, len(self.handles) - 1))).release()

    @invariant()
    def what_is_held_can_be_used(self) -> None:
        for handle in getattr(self, "handles", []):
            handle.servable.compute()

    @invariant()
    def the_budget_holds(self) -> None:
        if hasattr(self, "house"):
            assert self.house.manager.resources.used.ram_bytes <= BUDGET

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        for handle in self.handles:
            handle.release()
        for name, versions in self.aspired.items():
            for version in sorted(versions):
                self.gets_an_answer(name, version)
        self.house.manager.stop(grace=0)
        self.house.steps.take_all()
        self.house.clock.advance(10.0)
        assert self.house.manager.stop(grace=0)
        assert self.house.manager.resources.used == Resources(0)
        assert all(event.state is not State.AVAILABLE or not event.dormant for event in self.house.events)

    def gets_an_answer(self, name: str, version: int) -> None:
        """Once what fails now and then has been tried again."""
        manager = self.house.manager
        for _ in range(100):
            self.house.steps.take_all()
            if version in manager.serving.available(name):
                with manager.serving.acquire(name, version) as handle:
                    handle.servable.compute()
                return
            if not manager.is_unloaded(name):
                state = self.house.monitor.state(ServableId(name, version))
                # A version that failed beside others that did not is tried again with its model.
                if state is not None and state.state is State.END:
                    assert state.error is not None
                    return
            else:
                with suppress(ServingError):
                    manager.wake(name, version)
            self.house.clock.advance(0.5)
        raise AssertionError(f"version {version} of {name} is never loaded")


TestResidency = Lives.TestCase
TestResidency.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
