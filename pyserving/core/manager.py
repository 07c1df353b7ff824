"""Makes reality follow the aspired versions."""

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

from pyserving.core.clock import Clock, SystemClock
from pyserving.core.errors import Code, ServingError
from pyserving.core.events import EventBus
from pyserving.core.gate import Gate
from pyserving.core.handle import EvictableVersion, ServedVersion
from pyserving.core.harness import Harness
from pyserving.core.phase import Phase
from pyserving.core.residency import LOOK_AGAIN, PATIENCE, Residency, Room, Stay, new_step
from pyserving.core.resources import Resources, ResourceTracker
from pyserving.core.servable import ServableId
from pyserving.core.serving_map import ServingMap
from pyserving.core.source import AspiredVersion
from pyserving.core.state import ServableState, State
from pyserving.core.threads import Spawner, Threads
from pyserving.core.transition_policy import AvailabilityPreserving, Load, StreamVersion, TransitionPolicy, Unload

_log = logging.getLogger("pyserving.core")

Stream = dict[int, Harness]
"""The versions of one name that are aspired, or not gone yet."""


class Manager:
    """Loads what is aspired, unloads what is not, and hands out what is available.

    Sources say what is aspired; the last word on a stream counts. A version that is aspired and known already is
    left alone, whichever Loader comes with it: a source may say the same again and again. Hence a version whose
    load failed for good is tried again only after it was not aspired in between. A version aspired again while
    it unloads is loaded anew once it is gone.

    Requests find versions in ``serving`` and wait for nothing. All else is under one lock, never held during a load, an
    unload, or the call of a listener.

    Every version's events are, in this order: START, LOADING, AVAILABLE, UNLOADING, END; one that is given up or
    fails, in its load or at the gate, goes to END early. When AVAILABLE is told, ``serving`` has the version; when
    UNLOADING is, it has not. One that is evicted comes to END, and at once, dormant, to START again.
    """

    def __init__(
        self,
        bus: EventBus,
        serving: ServingMap | None = None,
        *,
        policy: TransitionPolicy | None = None,
        num_load_threads: int = 0,
        num_unload_threads: int = 0,
        max_num_load_retries: int = 5,
        load_retry_interval: float = 60.0,
        resources: ResourceTracker | None = None,
        gate: Gate | None = None,
        residency: Residency | None = None,
        clock: Clock | None = None,
        spawner: Spawner | None = None,
    ) -> None:
        """``serving`` is kept by this manager: what is AVAILABLE is in it.

        ``gate``: what each version has to pass once it is loaded. One that is refused is not tried again.

        So many loads, and so many unloads, run at once; 0 means one after the other, too.
        A load is attempted ``1 + max_num_load_retries`` times, ``load_retry_interval`` seconds apart; but
        not again after FAILED_PRECONDITION. One that a request waits for is attempted once, and again for a request
        that comes ``load_retry_interval`` seconds later.

        ``residency``: which models are loaded only for requests, and whether they make room for others.
        """
        self.serving = serving or ServingMap()
        self._bus = bus
        self._policy = policy or AvailabilityPreserving()
        self._num_load_threads = max(1, num_load_threads)
        self._num_unload_threads = max(1, num_unload_threads)
        self._max_num_load_retries = max_num_load_retries
        self._load_retry_interval = load_retry_interval
        self._resources = resources or ResourceTracker()
        self._gate = gate
        self._residency = residency or Residency()
        self._served_kind = EvictableVersion if self._residency.evicts else ServedVersion
        self._clock = clock or SystemClock()
        self._threads = spawner or Threads()

        self._lock = threading.Lock()
        self._nothing_managed = threading.Condition(self._lock)
        self._streams: dict[str, Stream] = {}
        self._loads = 0
        self._waiting_to_load: dict[str, None] = {}
        """Streams with something to load, in line for a thread."""
        self._waiting_for_room: list[Harness] = []
        self._unloads = 0
        self._waiting_to_unload: deque[Harness] = deque()
        self._stopping = False
        self._stepped: set[str] = set()
        """Streams that requests wait for, of which a version came to READY or ENDED."""

    # What sources and the server call

    def set_aspired_versions(
        self, name: str, versions: Sequence[AspiredVersion], *, moved: Collection[int] = ()
    ) -> None:
        """An AspiredVersionsCallback. Returns at once; loads and unloads follow on threads of their own.

        ``moved``: versions that are now elsewhere. Where their load has failed, the Loader that comes now is tried.
        """
        aspired = {version.id.version: version for version in versions}
        for version in versions:
            if version.id.name != name:
                raise ValueError(f"Expected versions of {name}, got {version.id}")
        with self._change():
            if not self._stopping:
                for harness in list(self._streams.get(name, {}).values()):
                    if harness.id.version in moved and harness.phase in (Phase.WAITING, Phase.ENDED):
                        harness.error = None
                        self._give_up(harness)
                self._aspire(name, aspired)

    def failure(self, servable: ServableId) -> ServingError | None:
        """Why a version that is aspired will not be available: it has failed, and is tried no more."""
        with self._lock:
            harness = self._streams.get(servable.name, {}).get(servable.version)
            return harness.error if harness is not None and harness.phase is Phase.ENDED else None

    def set_num_load_threads(self, num_load_threads: int) -> None:
        """For a while more loads may run at once, such as at the start, when there is no request to slow down."""
        with self._change():
            self._num_load_threads = max(1, num_load_threads)
            self._use_free_load_threads()

    def set_stays(self, stays: Mapping[str, Stay]) -> None:
        """How models come into memory, by name, from now on. What is not named is about to go, loaded or not."""
        with self._change():
            before, self._residency.stays = self._residency.stays, stays
            for name in sorted(self._residency.asleep & stays.keys()):
                old, new = before.get(name, Stay()), self._residency.stay(name)
                if not new.lazy and (old.lazy or (new.pinned and not old.pinned)):
                    self._residency.asleep.discard(name)
                    self._rouse(name)

    def is_unloaded(self, name: str) -> bool:
        """Whether ``wake`` may help a request that does not find this model. Any thread may ask."""
        return self._residency.is_unloaded(name)

    def wake(self, name: str, version: int | None = None) -> "Future[None] | None":
        """A request needs the model, which ``is_unloaded``: it is loaded, unless that has begun already.

        Returns what is done at the next step, after which to look again; None where nothing is to be waited for, such
        as for a version that there is not. Raises UNAVAILABLE, or RESOURCE_EXHAUSTED where there is too little memory,
        if a load failed shortly before.
        """
        residency = self._residency
        with self._change():
            stream = self._streams.get(name, {})
            if self._stopping or not residency.is_unloaded(name) or (version is not None and version not in stream):
                return None
            if name in residency.asleep:
                now = self._clock.time()
                if failure := residency.failure(name, now):
                    raise failure
                if warning := residency.wakes(name, now):
                    _log.warning("%s", warning)
                self._rouse(name)
            return residency.waking.get(name)

    @property
    def resources(self) -> ResourceTracker:
        """To be read only."""
        return self._resources

    def stop(self, grace: float) -> bool:
        """Unloads everything, each version once its handles are released, and takes no more aspired versions.

        Returns True once all is unloaded and every thread has ended; False if that took longer than ``grace``
        seconds. What is released later is still unloaded then.
        """
        end = time.monotonic() + grace
        with self._change():
            self._stopping = True
            for name in list(self._streams):
                self._aspire(name, {})
        with self._lock:
            if not self._nothing_managed.wait_for(lambda: not self._streams, grace):
                left = ", ".join(
                    f"{h.id} ({h.phase.value})" for stream in self._streams.values() for h in stream.values()
                )
                _log.warning("Stopped after %g seconds without having unloaded %s", grace, left)
                return False
        return self._threads.join(max(0.0, end - time.monotonic()))

    # From what is aspired to what is next. All below is under the lock, except _load and _unload.

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Holds the lock; afterwards tells the listeners what happened."""
        steps: list[Future[None]] = []
        try:
            with self._lock:
                yield
                if self._stepped:
                    steps = self._take_steps()
                if not self._streams:
                    self._nothing_managed.notify_all()
        finally:
            self._bus.deliver()
            for step in steps:
                step.set_result(None)

    def _aspire(self, name: str, aspired: Mapping[int, AspiredVersion]) -> None:
        if name not in self._streams and aspired and self._residency.stay(name).lazy:
            self._residency.asleep.add(name)
        stream = self._streams.setdefault(name, {})
        for version, harness in list(stream.items()):
            if harness.leaving and not harness.aspired:
                harness.successor = aspired.get(version)
            elif version in aspired:
                harness.aspired = True
            else:
                self._give_up(harness)
        for version, wanted in aspired.items():
            if version not in stream:
                self._manage(wanted)
        self._advance(name)

    def _manage(self, wanted: AspiredVersion) -> None:
        harness = Harness(wanted)
        self._streams[wanted.id.name][wanted.id.version] = harness
        if wanted.id.name in self._residency.asleep:
            harness.enter(Phase.DORMANT)
        self._tell(harness, State.START)

    def _give_up(self, harness: Harness) -> None:
        """It is aspired no more. What is loading or serves is the policy's to decide on."""
        harness.aspired = False
        if harness.phase in (Phase.NEW, Phase.DORMANT, Phase.WAITING):
            self._end(harness, harness.error)
        elif harness.phase is Phase.CHECKING and self._gate is not None:
            harness.given_up = True
            self._gate.give_up(harness.id)
        elif harness.phase is Phase.ENDED:
            del self._streams[harness.id.name][harness.id.version]

    def _advance(self, name: str) -> None:
        """Takes every step that the policy has for this stream now. Called after each change of it."""
        stream = self._streams[name]
        while action := self._policy.next_action(
            [StreamVersion(version, harness.phase, harness.wanted) for version, harness in stream.items()]
        ):
            match action:
                case Unload(version):
                    self._drain(stream[version])
                case Load(version) if self._loads < self._num_load_threads:
                    # It leaves its place in line: a stream of many versions does not keep others waiting.
                    self._waiting_to_load.pop(name, None)
                    self._start_load(stream[version])
                case Load():
                    self._waiting_to_load.setdefault(name)
                    break
        else:
            self._waiting_to_load.pop(name, None)
        if not stream:
            del self._streams[name]
            self._residency.forget(name)

    def _use_free_load_threads(self) -> None:
        while self._waiting_to_load and self._loads < self._num_load_threads:
            self._advance(next(iter(self._waiting_to_load)))

    def _end(self, harness: Harness, error: ServingError | None) -> None:
        harness.enter(Phase.ENDED)
        self._step(harness.id.name)
        self._tell(harness, State.END, error)
        if not harness.aspired:
            del self._streams[harness.id.name][harness.id.version]
            if harness.successor is not None:
                self._manage(harness.successor)

    def _tell(self, harness: Harness, state: State, error: ServingError | None = None) -> None:
        harness.state = state
        dormant = state is not State.AVAILABLE and harness.wanted and self._residency.is_unloaded(harness.id.name)
        self._bus.post(ServableState(harness.id, state, self._clock.time(), error, dormant))

    # Models that are not loaded until a request needs them

    def _rouse(self, name: str) -> None:
        """What is dormant is to be loaded, and what failed as well. The model is asleep no more."""
        for harness in list(self._streams[name].values()):
            if harness.phase is Phase.DORMANT:
                harness.enter(Phase.NEW)
            elif harness.phase is Phase.ENDED and harness.aspired and harness.can_return:
                self._manage(harness.renewed())
        if not self._is_unsettled(name):
            self._step(name)
        self._advance(name)

    def _is_unsettled(self, name: str) -> bool:
        stream = self._streams.get(name, {}).values()
        return any(harness.wanted and harness.phase not in (Phase.READY, Phase.ENDED) for harness in stream)

    def _step(self, name: str) -> None:
        if name in self._residency.waking:
            self._stepped.add(name)

    def _take_steps(self) -> list["Future[None]"]:
        """What to tell requests that wait; whether there is more to wait for is settled here."""
        stepped, self._stepped = self._stepped, set()
        residency = self._residency
        steps = []
        for name in stepped & residency.waking.keys():
            steps.append(residency.waking.pop(name))
            stream = self._streams.get(name, {}).values()
            if name in residency.asleep:  # it was evicted before all its versions were loaded
                continue
            if self._is_unsettled(name):
                residency.waking[name] = new_step()
            elif not any(harness.phase is Phase.READY for harness in stream):
                error = next((harness.error for harness in stream if harness.error), None)
                if error is not None:
                    residency.failed(name, error, self._clock.time() + self._load_retry_interval)
                    residency.asleep.add(name)
        return steps

    def _displace(self, harness: Harness, need: Resources) -> None:
        """There is no room for the version: others make room, or it waits, or its model goes to sleep."""
        name, residency, now = harness.id.name, self._residency, self._clock.time()
        if not harness.aspired:
            self._end(harness, None)
            return
        if why := residency.too_large(harness, need, self._streams, self._resources):
            self._load_failed(harness, ServingError(Code.RESOURCE_EXHAUSTED, why))
            return
        if harness.waits_for_room_since is None:
            harness.waits_for_room_since = now
        patient = 0 <= now - harness.waits_for_room_since < PATIENCE
        room, victims = residency.room(name, need, self._streams, self._resources, now, patient=patient)
        harness.enter(Phase.WAITING)
        if room is Room.NEVER:
            self._sleep(name)
            return
        self._waiting_for_room.append(harness)
        for victim in victims:
            _log.info("Model %s is evicted: model %s needs its memory", victim, name)
            residency.evicted(victim, now)
            self._sleep(victim)
        if room is Room.LATER:
            self._clock.call_later(LOOK_AGAIN, partial(self._retry, harness))

    def _sleep(self, name: str) -> None:
        """Whatever of the model is loaded goes; the next request brings it back."""
        self._residency.asleep.add(name)
        for harness in list(self._streams[name].values()):
            if harness.phase not in (Phase.NEW, Phase.WAITING, Phase.READY):
                continue
            if harness.aspired:
                harness.aspired, harness.successor = False, harness.renewed()
            if harness.phase is Phase.READY:
                self._drain(harness)
            else:
                self._end(harness, None)

    # Loading

    def _start_load(self, harness: Harness) -> None:
        # First, for it may fail where the machine has no thread to give: then nothing has changed.
        self._threads.spawn(f"pyserving-load-{harness.id.name}", partial(self._load, harness))
        self._loads += 1
        harness.enter(Phase.LOADING)
        if harness.state is State.START:
            self._tell(harness, State.LOADING)

    def _load(self, harness: Harness) -> None:
        need = harness.estimate()
        began = self._clock.time()
        with self._change():
            if not self._make_room(harness, need):
                self._end_load(harness)
                return
        loaded = harness.load()
        with self._change():
            if isinstance(loaded, ServingError):
                self._resources.release(harness.id)
                self._load_failed(harness, loaded)
            else:
                harness.error = None
                harness.loaded_at = self._clock.time()
                harness.load_seconds = harness.loaded_at - began
                harness.served = self._served_kind(harness.id, loaded, partial(self._drained, harness))
                if self._gate is None:
                    self._serve(harness)
                else:
                    harness.enter(Phase.CHECKING)
            self._end_load(harness)
        if harness.phase is Phase.CHECKING:
            self._check(harness)

    def _check(self, harness: Harness) -> None:
        """On the thread of the load, which counts no more as one: other loads need not wait for a check."""
        gate, served = self._gate, harness.served
        assert gate is not None
        assert served is not None
        refusal = harness.check(gate, served)
        with self._change():
            if refusal is None and not harness.given_up:
                self._serve(harness)
            else:
                harness.error = None if harness.given_up else refusal
                harness.enter(Phase.DRAINING)
                self._unload_when_released(harness)
            self._advance(harness.id.name)

    def _make_room(self, harness: Harness, need: Resources | ServingError) -> bool:
        if isinstance(need, ServingError):
            self._load_failed(harness, need)
            return False
        try:
            self._resources.reserve(harness.id, need)
        except ServingError as refusal:
            if self._residency.evicts and harness.can_return:
                self._displace(harness, need)
            elif harness.aspired and any(h.leaving for stream in self._streams.values() for h in stream.values()):
                harness.enter(Phase.WAITING)
                self._waiting_for_room.append(harness)
            else:
                self._load_failed(harness, ServingError(refusal.code, refusal.message))
            return False
        harness.waits_for_room_since = None
        return True

    def _load_failed(self, harness: Harness, error: ServingError) -> None:
        harness.error = error
        harness.failures += 1
        # Requests that wait are told at once.
        attempts = 1 if harness.id.name in self._residency.waking else 1 + self._max_num_load_retries
        _log.warning("Attempt %d of %d to load servable %s failed: %s", harness.failures, attempts, harness.id, error)
        # What is not fit to be loaded will not be so later.
        again = error.code is not Code.FAILED_PRECONDITION
        if harness.aspired and harness.failures < attempts and again:
            harness.enter(Phase.WAITING)
            self._clock.call_later(self._load_retry_interval, partial(self._retry, harness))
        else:
            self._end(harness, error)

    def _retry(self, harness: Harness) -> None:
        with self._change():
            self._try_again(harness)

    def _try_again(self, harness: Harness) -> None:
        # If it was given up in the meantime, it has ended.
        if harness.phase is Phase.WAITING:
            harness.enter(Phase.NEW)
            self._advance(harness.id.name)

    def _serve(self, harness: Harness) -> None:
        harness.enter(Phase.READY)
        self._replace_serving(harness.id.name)
        self._step(harness.id.name)
        self._tell(harness, State.AVAILABLE)

    def _end_load(self, harness: Harness) -> None:
        self._loads -= 1
        # Those in line before this stream, which may want more.
        self._use_free_load_threads()
        self._advance(harness.id.name)

    def _replace_serving(self, name: str) -> None:
        ready = [h.served for h in self._streams[name].values() if h.phase is Phase.READY and h.served]
        self.serving.replace(name, ready)

    # Unloading

    def _drain(self, harness: Harness) -> None:
        harness.enter(Phase.DRAINING)
        self._replace_serving(harness.id.name)
        self._tell(harness, State.UNLOADING)
        self._unload_when_released(harness)

    def _unload_when_released(self, harness: Harness) -> None:
        if harness.served is not None and harness.served.close():
            self._unload_when_free(harness)

    def _drained(self, harness: Harness) -> None:
        """Called as the last handle is released, by that request's thread."""
        with self._change():
            if harness.phase is Phase.DRAINING:
                self._unload_when_free(harness)

    def _unload_when_free(self, harness: Harness) -> None:
        harness.enter(Phase.UNLOADING)
        self._waiting_to_unload.append(harness)
        self._use_free_unload_threads()

    def _use_free_unload_threads(self) -> None:
        while self._waiting_to_unload and self._unloads < self._num_unload_threads:
            harness = self._waiting_to_unload[0]
            self._threads.spawn(f"pyserving-unload-{harness.id.name}", partial(self._unload, harness))
            self._waiting_to_unload.popleft()
            self._unloads += 1

    def _unload(self, harness: Harness) -> None:
        error = harness.unload()
        with self._change():
            self._unloads -= 1
            self._resources.release(harness.id)
            self._end(harness, harness.error or error)
            self._use_free_unload_threads()
            # First those that waited: it may be for them that this one was evicted.
            waiting, self._waiting_for_room = self._waiting_for_room, []
            for other in waiting:
                self._try_again(other)
            self._advance(harness.id.name)
