"""What is seen of a request while it is answered: which model ran, what ran with it, and when each stage began.

Nobody looks unless ``current`` holds an Observation, and then rooms write down the times here; what becomes of them, a
log line or a trace, is decided elsewhere. Times are on the clock of ``time.monotonic``, in seconds.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Protocol

_MAX_RUNS = 256
"""Of one request, that are looked at: a stream may go on for days, each of its messages a run."""


class Trace(Protocol):
    """The span of a request, as rooms see it that know no tracing library."""

    def child(self, name: str) -> "Trace":
        """Begins a span below this one."""
        ...

    def attached(self) -> AbstractContextManager[object]:
        """Within it, code on this thread finds the span as the current one of the tracing library."""
        ...

    def end(self, observation: "Observation", error: BaseException | None) -> None:
        """Ends a child."""
        ...


class Observation:
    """One request. Used on the event loop; engine threads add Computations."""

    __slots__ = ("begun", "ended", "epoch", "model", "runs", "signature", "trace", "version")

    def __init__(self, trace: Trace | None = None) -> None:
        self.begun = time.monotonic()
        self.ended = self.begun
        """Once it was answered."""
        self.epoch = time.time() - self.begun
        """To be added to the times here for seconds since the epoch."""
        self.model = ""
        """What the request named, or what ran for it last."""
        self.version: int | None = None
        self.signature = ""
        self.runs: list[Run] = []
        self.trace = trace

    def run(self, model: str, version: int, signature: str) -> "Run":
        """A signature is about to be run."""
        self.model, self.version, self.signature = model, version, signature
        run = Run(self)
        if len(self.runs) < _MAX_RUNS:
            self.runs.append(run)
        return run

    def end(self) -> None:
        self.ended = time.monotonic()

    @contextmanager
    def child(self, name: str) -> Iterator[None]:
        """Within it, in a context of its own, runs belong to a span below this request's, if there is one."""
        trace = None if self.trace is None else self.trace.child(name)
        if trace is None:
            current.set(None)
            yield
            return
        child = Observation(trace)
        current.set(child)
        try:
            yield
        except BaseException as error:
            child.end()
            trace.end(child, error)
            raise
        child.end()
        trace.end(child, None)

    def stages(self) -> dict[str, float]:
        """How long each took that was reached, in seconds: decode, queue, batch, engine, encode.

        batch: joining requests and dividing the answer, on the engine's thread. Stages of several runs are added up.
        """
        if not self.runs:
            return {}
        stages = {"decode": self.runs[0].asked - self.begun}
        for run in self.runs:
            for part in run.computations:
                engine = part.engine_ended - part.engine_began
                times = {"queue": part.began - run.asked, "batch": part.ended - part.began - engine, "engine": engine}
                for name, seconds in times.items():
                    stages[name] = stages.get(name, 0.0) + max(0.0, seconds)
            if not run.computations:
                stages["queue"] = stages.get("queue", 0.0) + run.answered - run.asked
        stages["encode"] = self.ended - self.runs[-1].answered
        return stages


class Run:
    """One call of the executor for a request."""

    __slots__ = ("answered", "asked", "computations", "observation")

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.asked = self.answered = time.monotonic()
        self.computations: list[Computation] = []
        """Several where the request was split."""

    def end(self) -> None:
        """The results are there, or there will be none."""
        self.answered = time.monotonic()

    def computed_inline(self, seconds: float, rows: int) -> None:
        """It ran on the event loop, for so long, until now."""
        self.answered = time.monotonic()
        part = Computation([self], 1, rows, self.answered - seconds)
        part.engine_ended = part.ended = self.answered
        self.computations.append(part)


class Computation:
    """One engine call, for one request or for several that were joined. As a context manager, around the call."""

    __slots__ = ("_stack", "began", "ended", "engine_began", "engine_ended", "leader", "requests", "rows", "runs")

    def __init__(self, runs: Sequence[Run], requests: int, rows: int, began: float) -> None:
        """``requests``: how many were joined, ``runs``: for those of them that are looked at; ``rows``: of all of them,
        0 where their inputs have none in common.

        ``began``: when the batch began.
        """
        self.runs = runs
        self.requests = requests
        self.rows = rows
        self.began = self.engine_began = self.engine_ended = self.ended = began
        self.leader: object = None
        """For who makes traces."""

    def __enter__(self) -> None:
        for run in self.runs:
            run.computations.append(self)
        first = self.runs[0].observation
        self._stack = ExitStack()
        self._stack.enter_context(_current(first))
        if first.trace is not None:
            self._stack.enter_context(first.trace.attached())
        self.engine_began = self.engine_ended = self.ended = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.engine_ended = self.ended = time.monotonic()
        self._stack.close()

    def end(self) -> None:
        """The answer was divided."""
        self.ended = time.monotonic()


current: ContextVar[Observation | None] = ContextVar("pyserving_observation", default=None)
"""That of the request which is being answered; None: nobody looks."""


@contextmanager
def _current(observation: Observation) -> Iterator[None]:
    token = current.set(observation)
    try:
        yield
    finally:
        current.reset(token)
