"""Stand-ins that let a test take a manager through its steps one by one."""

import heapq
from collections.abc import Callable
from functools import partial
from itertools import count

from pyserving.core.events import EventBus
from pyserving.core.manager import Manager
from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.resources import Resources
from pyserving.core.servable import ServableId
from pyserving.core.source import AspiredVersion
from pyserving.core.state import ServableState


class FakeServable:
    """Knows whether it may be used now."""

    def __init__(self) -> None:
        self.usable = True

    def compute(self) -> int:
        assert self.usable, "used after its unload began"
        return 42


class FakeLoader:
    """Fails with the errors given, one a load, then succeeds."""

    def __init__(self, *failures: BaseException, need: int = 0) -> None:
        self.failures = list(failures)
        self.need = Resources(need)
        self.loads = 0
        self.unloads = 0
        self.servable: FakeServable | None = None

    def estimate_resources(self) -> Resources:
        return self.need

    def load(self) -> FakeServable:
        self.loads += 1
        if self.failures:
            raise self.failures.pop(0)
        assert self.servable is None, "loaded twice"
        self.servable = FakeServable()
        return self.servable

    def unload(self) -> None:
        assert self.servable is not None, "unloaded without having been loaded"
        self.unloads += 1
        self.servable.usable = False


class BrokenLoader(FakeLoader):
    """Fails at every load."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def load(self) -> FakeServable:
        self.loads += 1
        raise self.error


class Steps:
    """A Spawner: what is spawned counts as running until the test takes the step."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, Callable[[], None]]] = []

    def spawn(self, name: str, job: Callable[[], None]) -> None:
        self.jobs.append((name, job))

    def join(self, timeout: float) -> bool:
        return not self.jobs

    def take(self, index: int = 0) -> None:
        self.jobs.pop(index)[1]()

    def take_all(self) -> None:
        while self.jobs:
            self.take()


class FakeClock:
    """Goes when told to; makes the calls that fall due on the caller's thread."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._numbers = count()
        self._calls: list[tuple[float, int, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._calls, (self.now + delay, next(self._numbers), callback))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._calls and self._calls[0][0] <= end:
            self.now, _, callback = heapq.heappop(self._calls)
            callback()
        self.now = end


class House:
    """A manager with fakes around it, and what it tells."""

    def __init__(self, **options: object) -> None:
        self.bus = EventBus()
        self.monitor = ServableStateMonitor(self.bus)
        self.events: list[ServableState] = []
        self.bus.subscribe(self.events.append)
        self.clock = FakeClock()
        self.steps = Steps()
        self.loaders: dict[tuple[str, int], FakeLoader] = {}
        self.manager = Manager(self.bus, clock=self.clock, spawner=self.steps, **options)  # type: ignore[arg-type]

    def aspire(self, name: str, *versions: int, **loaders: FakeLoader) -> None:
        """The whole of a stream; ``v3=loader`` is version 3 with that loader, 3 alone gets one that works."""
        given = {int(key[1:]): loader for key, loader in loaders.items()}
        given |= {version: FakeLoader() for version in versions}
        aspired = []
        for version, loader in given.items():
            aspired.append(
                AspiredVersion(
                    ServableId(name, version),
                    loader,
                    partial(self._renew, name, version, list(loader.failures), loader.need.ram_bytes),
                )
            )
            if self.monitor.state(ServableId(name, version)) is None:
                self.loaders[name, version] = loader
        self.manager.set_aspired_versions(name, aspired)

    def _renew(self, name: str, version: int, failures: list[BaseException], need: int) -> FakeLoader:
        """The first of the failures was met by the one before."""
        renewed = self.loaders[name, version] = FakeLoader(*failures[1:], need=need)
        return renewed

    def settle(self) -> None:
        self.steps.take_all()

    def told(self, name: str, version: int) -> list[str]:
        """The names of the states that a version went through."""
        return [event.state.name for event in self.events if event.id == ServableId(name, version)]

    def error(self, name: str, version: int) -> str:
        state = self.monitor.state(ServableId(name, version))
        return str(state.error) if state and state.error else ""
