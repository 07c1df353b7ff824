"""Which requests are let in to wait for an engine call, and which are refused at once.

Only calls on threads wait, so only they come here: what the event loop computes itself is done before the next request
is looked at.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from pyserving.batching.cost import CostEstimate
from pyserving.batching.priority import Priority
from pyserving.batching.request import Request
from pyserving.core.errors import Code, ServingError

_WINDOW = 0.02
"""Seconds of work that are one sample of a lane's speed."""
_MARGIN = 1.2
"""For what a call takes: one that ends too late was in vain, and with it all that was joined in it."""
_QUEUE_MARGIN = 2.0
"""For the way through the queue: half a deadline of work is enough to keep all threads busy."""
_MAX_CAUTION = 8.0
_MIN_RETRY, _USUAL_RETRY, _MAX_RETRY = 0.01, 1.0, 30.0

Refused = Callable[[str, str], None]
"""Told the model and the reason of each refusal, on any thread."""

IN_FLIGHT, QUEUE, ALL_IN_FLIGHT, ALL_QUEUES, DEADLINE = (
    "model_in_flight",
    "model_queue",
    "all_in_flight",
    "all_queues",
    "deadline",
)
"""Reasons."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit."""

    max_in_flight: int | None = None
    """Requests that may be waiting or computed at a time."""
    max_queued: int | None = None
    """Of these, requests that may wait for their engine call to begin."""


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """What holds for the requests of one model."""

    limits: Limits = NO_LIMITS
    priority: Priority = Priority.NORMAL
    """Of requests that name none."""


@dataclass(frozen=True, slots=True)
class AdmissionOptions:
    """By default everything is let in."""

    total: Limits = NO_LIMITS
    """Of all models together."""
    per_model: Limits = NO_LIMITS
    """Of each model that has no limits of its own."""
    watch_deadlines: bool = False
    """Refuse what is not expected to be answered within its deadline."""


class Admission:
    """Lets requests in. Used on one event loop, but for what lanes say that other threads may call."""

    def __init__(self, options: AdmissionOptions | None = None, refused: Refused | None = None) -> None:
        self.options = options or AdmissionOptions()
        self.tell_refused = refused or (lambda _model, _reason: None)
        self.lock = threading.Lock()
        """Held for what ``Lane`` counts; never for long."""
        self.in_flight = 0
        self.waiting = 0
        self._terms: Mapping[str, ModelTerms] = {}
        self._lanes: WeakValueDictionary[str, Lane] = WeakValueDictionary()

    def configure(self, terms: Mapping[str, ModelTerms]) -> None:
        """What models say for themselves, by name: from now on."""
        self._terms = terms
        for lane in list(self._lanes.values()):
            lane.set_terms(self._terms_of(lane.name))

    def lane(self, name: str) -> "Lane":
        """That of a model. It lives for as long as somebody keeps it."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name, self, self._terms_of(name))
        return lane

    def waiting_requests(self) -> dict[str, int]:
        """How many requests wait, by model."""
        return {lane.name: lane.waiting for lane in list(self._lanes.values())}

    def is_over(self, limit: float, of_all: int, own: int) -> bool:
        """Whether a model that has ``own`` of ``of_all`` is to have no more, lest all have more than ``limit``.

        One that has less than its part of the limit is let in beyond it: others have what should be its own.
        """
        if of_all < limit:
            return False
        busy = sum(lane.in_flight > 0 for lane in list(self._lanes.values()))
        return own >= limit / max(busy, 1)

    def _terms_of(self, name: str) -> ModelTerms:
        own, default = self._terms.get(name, ModelTerms()), self.options.per_model
        limits = Limits(
            default.max_in_flight if own.limits.max_in_flight is None else own.limits.max_in_flight,
            default.max_queued if own.limits.max_queued is None else own.limits.max_queued,
        )
        return ModelTerms(limits, own.priority)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Lane:
    """The requests of one model on their way through the engine threads, and how quickly they get through.

    Work is counted in seconds of cost: what a call takes by itself, as was measured. How much of that is done in a
    second, with several threads, with requests that share a call, and with other models beside, is the lane's speed.
    """

    name: str
    _admission: Admission
    terms: ModelTerms
    waiting: int = 0
    in_flight: int = 0
    run: CostEstimate = field(default_factory=CostEstimate)
    """How long calls take, from their beginning to their end."""
    pace: float = 0.0
    """Cost that one call gets done in a second, more than 1 where requests share it; 0: not known."""
    _waiting_cost: list[float] = field(default_factory=lambda: [0.0] * len(Priority))
    """Of the requests that wait, by their priority."""
    _running_cost: float = 0.0
    _mean_cost: float = 0.0
    _running: int = 0
    _speed: float = 0.0
    """0: not known."""
    _caution: float = 1.0
    """How many times as long as expected the way through the queue may take: more, the more calls end too late."""
    _busy_since: float = 0.0
    _busy: float = 0.0
    _done: float = 0.0

    def set_terms(self, terms: ModelTerms) -> None:
        self.terms = terms

    def admit(self, request: Request, cost: float) -> None:
        """Counts ``request``, until it ``leave``s. ``cost``: seconds that a call for it takes; infinite: not known.

        Raises RESOURCE_EXHAUSTED.
        """
        admission = self._admission
        with admission.lock:
            refusal = self._refusal(request, cost)
            if refusal is None:
                request.cost = self._mean_cost if cost == math.inf else cost
                request.waits = True
                request.must_run = not self.in_flight
                self.waiting += 1
                self.in_flight += 1
                self._waiting_cost[request.priority] += request.cost
                admission.waiting += 1
                admission.in_flight += 1
                return
        self._refuse(*refusal)

    def enter(self) -> None:
        """Counts what does not wait here, such as a streamed answer, until ``leave_stream``. Raises
        RESOURCE_EXHAUSTED."""
        admission = self._admission
        with admission.lock:
            refusal = self._over_in_flight(self.in_flight, admission.in_flight)
            if refusal is None:
                self.in_flight += 1
                admission.in_flight += 1
                return
        self._refuse(*refusal)

    def exit(self) -> None:
        """The opposite of ``enter``."""
        with self._admission.lock:
            self.in_flight -= 1
            self._admission.in_flight -= 1

    def leave(self, request: Request) -> None:
        """Answered, refused or given up."""
        admission = self._admission
        with admission.lock:
            self._stop_waiting(request)
            self.in_flight -= 1
            admission.in_flight -= 1

    def begin(self, requests: Iterable[Request]) -> float:
        """A call for ``requests`` begins. Any thread may call. Returns what ``end`` is to be given."""
        now = time.monotonic()
        with self._admission.lock:
            cost = 0.0
            for request in requests:
                self._stop_waiting(request)
                cost += request.cost
            self._count_busy(now)
            self._running += 1
            self._running_cost += cost
        return now

    def end(self, requests: Iterable[Request], began: float) -> None:
        """It has ended. Any thread may call."""
        now = time.monotonic()
        with self._admission.lock:
            cost, number, late = 0.0, 0, 0
            for request in requests:
                cost += request.cost
                number += 1
                late += request.deadline is not None and now >= request.deadline
            # Estimates may be wrong in many ways; what ends too late was let in too easily.
            if late:
                self._caution = min(self._caution * (1.0 + 0.5 * late / number), _MAX_CAUTION)
            else:
                self._caution = max(self._caution * 0.97, 1.0)
            self._count_busy(now)
            self._running -= 1
            self._running_cost = max(0.0, self._running_cost - cost) if self._running else 0.0
            if not cost and self._mean_cost == 0.0 and number:
                self._mean_cost = (now - began) / number  # to begin with
            elif number:
                self._mean_cost += 0.1 * (cost / number - self._mean_cost)
            self._done += cost
            if cost and now > began:
                pace = cost / (now - began)
                self.pace += 0.2 * (pace - self.pace) if self.pace else pace
            if self._busy >= _WINDOW:
                speed = self._done / self._busy
                # Hope comes quicker than despair: who waits in vain is refused when it is their turn, and costs little.
                self._speed += (speed - self._speed) * (0.5 if speed > self._speed else 0.2) if self._speed else speed
                self._busy = self._done = 0.0

    def ran(self, seconds: float) -> None:
        """A call took so long. Any thread may call."""
        self.run.add(seconds)

    def too_late(self, request: Request, now: float, cost: float) -> ServingError | None:
        """Why ``request``, whose call is about to begin, need not be computed: it would not end in time.

        ``cost``: of all that the call is to compute. One that came when there was no other is computed in any case:
        from it is learned how long calls take now.
        """
        if (
            request.deadline is None
            or request.must_run
            or not self._admission.options.watch_deadlines
            or not self.run.settled
            or not self.pace
        ):
            return None
        seconds = _MARGIN * cost / self.pace
        if now + seconds < request.deadline:
            return None
        self._admission.tell_refused(self.name, DEADLINE)
        return _refusal(
            f"cannot be answered within its deadline: {request.deadline - now:.3f} s are left, and the call of model "
            f"{self.name} would take about {seconds:.3f} s",
            seconds,
        )

    # All below is under the lock

    def _stop_waiting(self, request: Request) -> None:
        if request.waits:
            request.waits = False
            self.waiting -= 1
            self._admission.waiting -= 1
            if self.waiting:
                self._waiting_cost[request.priority] -= request.cost
            else:
                self._waiting_cost = [0.0] * len(Priority)  # sums of floats drift

    def _count_busy(self, now: float) -> None:
        if self._running:
            self._busy += now - self._busy_since
        self._busy_since = now

    def _refusal(self, request: Request, cost: float) -> tuple[str, str, float] | None:
        """The reason, the text, and after how many seconds to try again."""
        admission = self._admission
        total, limits, share = admission.options.total, self.terms.limits, _SHARES[request.priority]
        if over := self._over_in_flight(self.in_flight, admission.in_flight, share):
            return over
        if limits.max_queued is not None and self.waiting >= math.ceil(limits.max_queued * share):
            text = f"{self.waiting} requests for model {self.name} wait already, of at most {limits.max_queued}"
            return QUEUE, text, self._wait(request.priority) / 2
        if total.max_queued is not None and admission.is_over(
            total.max_queued * share, admission.waiting, self.waiting
        ):
            text = f"{admission.waiting} requests wait already, of at most {total.max_queued}"
            return ALL_QUEUES, text, self._wait(request.priority) / 2
        # One at least is always let in, and shows how things are by now.
        if admission.options.watch_deadlines and request.deadline is not None and self.in_flight and self.run.settled:
            left = request.deadline - time.monotonic()
            own = self._mean_cost if cost == math.inf else cost
            need = (
                _QUEUE_MARGIN * self._caution * (self._wait(request.priority) + (own / self.pace if self.pace else own))
            )
            if need > left:
                text = (
                    f"cannot be answered within its deadline: {left:.3f} s are left, and with {self.waiting} requests "
                    f"for model {self.name} that wait it would take about {need:.3f} s"
                )
                return DEADLINE, text, need - left
        return None

    def _over_in_flight(self, own: int, of_all: int, share: float = 1.0) -> tuple[str, str, float] | None:
        limit = self.terms.limits.max_in_flight
        if limit is not None and own >= math.ceil(limit * share):
            text = f"{own} requests for model {self.name} are in flight, of at most {limit}"
            return IN_FLIGHT, text, self.run.seconds
        limit = self._admission.options.total.max_in_flight
        if limit is not None and self._admission.is_over(limit * share, of_all, own):
            return ALL_IN_FLIGHT, f"{of_all} requests are in flight, of at most {limit}", self.run.seconds
        return None

    def _wait(self, priority: Priority) -> float:
        """Seconds until what is there now, and goes first, is done."""
        cost = sum(self._waiting_cost[: priority + 1]) + self._running_cost / 2
        return cost / self._speed if self._speed else 0.0

    def _refuse(self, reason: str, text: str, retry_after: float) -> None:
        self._admission.tell_refused(self.name, reason)
        raise _refusal(text, retry_after)


_SHARES = {Priority.HIGH: 1.0, Priority.NORMAL: 1.0, Priority.LOW: 0.5}
"""How much of each limit a request may use up: those of low priority leave room for others."""


def _refusal(text: str, retry_after: float) -> ServingError:
    error = ServingError(Code.RESOURCE_EXHAUSTED, f"The request was refused: {text}")
    error.retry_after = min(max(retry_after, _MIN_RETRY), _MAX_RETRY) if math.isfinite(retry_after) else _USUAL_RETRY
    return error
