"""Random lives: whatever is aspired, loaded, held and dropped, in the end there is exactly what is aspired."""

import pytest
from core_fakes import FakeLoader, House
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle
from pyserving.core.resources import Resources, ResourceTracker
from pyserving.core.servable import ServableId
from pyserving.core.source import AspiredVersion
from pyserving.core.state import ServableState, State
from pyserving.core.transition_policy import AvailabilityPreserving, ResourcePreserving

NAMES = st.sampled_from(["a", "b"])
VERSIONS = st.integers(1, 4)
RETRIES = 2

NEXT = {
    None: {State.START},
    State.START: {State.LOADING, State.END},
    State.LOADING: {State.AVAILABLE, State.END},
    State.AVAILABLE: {State.UNLOADING},
    State.UNLOADING: {State.END},
    State.END: {State.START},
}


class Lives(RuleBasedStateMachine):
    @initialize(
        policy=st.sampled_from([AvailabilityPreserving(), ResourcePreserving()]),
        load_threads=st.integers(0, 3),
        unload_threads=st.integers(0, 3),
        limited=st.booleans(),
    )
    def build(
        self,
        policy: AvailabilityPreserving | ResourcePreserving,
        load_threads: int,
        unload_threads: int,
        limited: bool,
    ) -> None:
        # A tight limit refuses some loads; those wait for room or a retry, as failed ones do.
        self.house = House(
            policy=policy,
            num_load_threads=load_threads,
            num_unload_threads=unload_threads,
            max_num_load_retries=RETRIES,
            load_retry_interval=10.0,
            resources=ResourceTracker(Resources(3) if limited else None),
        )
        self.limited = limited
        self.aspired: dict[str, set[int]] = {"a": set(), "b": set()}
        self.handles: list[ServableHandle] = []
        self.outages: list[ServableState] = []
        self.loaders: list[FakeLoader] = []
        if isinstance(policy, AvailabilityPreserving):
            self.house.bus.subscribe(self.leaves_one_to_serve)

    def leaves_one_to_serve(self, event: ServableState) -> None:
        if (
            event.state is State.UNLOADING
            and self.aspired[event.id.name]
            and not self.house.manager.serving.available(event.id.name)
        ):
            self.outages.append(event)

    @rule(name=NAMES, versions=st.sets(VERSIONS), failures=st.integers(0, RETRIES))
    def aspire(self, name: str, versions: set[int], failures: int) -> None:
        aspired = []
        for version in sorted(versions):
            loader = FakeLoader(*[ServingError(Code.UNAVAILABLE, "not yet")] * failures, need=1)
            self.loaders.append(loader)
            aspired.append(AspiredVersion(ServableId(name, version), loader))
        self.aspired[name] = versions
        self.house.manager.set_aspired_versions(name, aspired)

    @precondition(lambda self: self.house.steps.jobs)
    @rule(data=st.data())
    def take_a_step(self, data: st.DataObject) -> None:
        self.house.steps.take(data.draw(st.integers(0, len(self.house.steps.jobs) - 1)))

    @rule(seconds=st.sampled_from([1.0, 10.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.house.clock.advance(seconds)

    @rule(name=NAMES, version=st.none() | VERSIONS)
    def acquire(self, name: str, version: int | None) -> None:
        available = self.house.manager.serving.available(name)
        if version in available or (version is None and available):
            handle = self.house.manager.serving.acquire(name, version)
            assert handle.id == ServableId(name, version or available[0])
            self.handles.append(handle)
        else:
            with pytest.raises(ServingError, match="Servable not found"):
                self.house.manager.serving.acquire(name, version)

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), share=st.booleans())
    def release(self, data: st.DataObject, share: bool) -> None:
        handle = self.handles.pop(data.draw(st.integers(0, len(self.handles) - 1)))
        if share:
            self.handles.append(handle.share())
        handle.release()

    @invariant()
    def what_is_held_can_be_used(self) -> None:
        for handle in getattr(self, "handles", []):
            handle.servable.compute()

    @invariant()
    def events_tell_a_life_in_order(self) -> None:
        last: dict[ServableId, State] = {}
        for event in self.house.events if hasattr(self, "house") else []:
            assert event.state in NEXT[last.get(event.id)]
            last[event.id] = event.state

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        for handle in self.handles:
            handle.release()
        for _ in range(2 * (RETRIES + 2)):
            self.house.steps.take_all()
            self.house.clock.advance(10.0)
        assert self.outages == []
        if not self.limited:
            for name, versions in self.aspired.items():
                assert self.house.manager.serving.available(name) == sorted(versions, reverse=True)
        assert self.house.manager.resources.used == Resources(len(self.house.manager.serving.handles_out()))
        self.house.manager.stop(grace=0)
        self.house.steps.take_all()
        assert self.house.manager.stop(grace=0)
        assert self.house.manager.resources.used == Resources(0)
        for loader in self.loaders:
            assert loader.unloads == (loader.servable is not None)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
