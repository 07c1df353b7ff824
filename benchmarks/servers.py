"""A contender that is running, to be checked and measured."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import answers, closed_loop, open_loop, usage
from benchmarks.closed_loop import Load
from benchmarks.contenders import Contender, Start, environment_of
from benchmarks.engine_alone import EngineAlone
from benchmarks.open_loop import Latencies
from benchmarks.running import free_port, running
from benchmarks.workloads import Array, Workload

BUSY_WHEN_IDLE = 0.05
"""CPU seconds per second."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one contender."""

    load: Load
    cpu_seconds: float
    """Of the server and its children, user and system."""
    resident_mb: float
    processes: int

    @property
    def requests_per_second(self) -> float:
        return self.load.requests / self.load.seconds

    @property
    def cpu_ms_per_request(self) -> float:
        return self.cpu_seconds / self.load.requests * 1e3 if self.load.requests else float("nan")


@dataclass
class Server:
    contender: Contender
    pid: int
    rest: int
    grpc: int
    models: Path
    patience: float = 120
    """Seconds for the first answer to come; then those for an answer."""
    begun: float = field(default_factory=time.monotonic)
    """When its process was started."""
    start_seconds: float | None = None
    """From then to its first right answer."""
    idle_share: float = 0.0
    """CPU seconds per second without requests."""
    _answer_bytes: dict[str, int] = field(default_factory=dict)

    def answers(self, workload: Workload) -> bool:
        return workload.transport in self.contender.transports

    def check(self, workload: Workload, right: Array | None = None) -> None:
        """``right``: the answer; by default the one that was stored with the model."""
        if right is None:
            right = answers.expected(self.models, workload)
        self._answer_bytes[workload.name] = answers.check(
            self.contender, self._port(workload), workload, right, self.patience
        )
        if self.start_seconds is None:
            self.start_seconds, self.patience = time.monotonic() - self.begun, 5

    def measure_idle(self, seconds: float = 0.5) -> None:
        """Sets ``idle_share``."""
        before = usage.of(self.pid).cpu_seconds
        time.sleep(seconds)
        self.idle_share = (usage.of(self.pid).cpu_seconds - before) / seconds

    def pause(self) -> None:
        """Stops one that is busy though nobody asks it: it would slow the others down."""
        if self.idle_share > BUSY_WHEN_IDLE:
            for process in usage.tree(self.pid):
                os.kill(process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        for process in usage.tree(self.pid):
            os.kill(process.pid, signal.SIGCONT)

    def measure(self, workload: Workload, connections: int, seconds: float) -> Sample:
        self.resume()
        before = usage.of(self.pid)
        if workload.transport == "grpc":
            load = closed_loop.grpc(
                f"http://127.0.0.1:{self.grpc}/{answers.METHOD}",
                workload.message,
                answer_bytes=self._answer_bytes[workload.name],
                connections=connections,
                seconds=seconds,
            )
        else:
            load = closed_loop.http(
                self._url(workload), self.contender.body(workload), connections=connections, seconds=seconds
            )
        sample = _sample(self.pid, before, load)
        self._settle(workload)
        return sample

    def paced(self, workload: Workload, rate: float, seconds: float) -> Latencies:
        """At a fixed rate of arrival."""
        if workload.transport == "grpc":
            url, body = f"grpc://127.0.0.1:{self.grpc}/{answers.METHOD}", workload.message
        else:
            url, body = self._url(workload), self.contender.body(workload)
        self.resume()
        latencies = open_loop.start(url, body, rate=rate, seconds=seconds).result()
        self._settle(workload)
        return latencies

    def _settle(self, workload: Workload, most: float = 20) -> None:
        """Waits until it has done what clients that are gone have left it with, which would slow the next one down.

        One more request has its answer when those before it are done; what other processes of it have left to do
        shows in its CPU time.
        """
        end, used = time.monotonic() + most, float("inf")
        with suppress(answers.WrongAnswerError):
            answers.ask(self.contender, self._port(workload), workload)
        while used > self.idle_share * 0.2 + 0.04 and time.monotonic() < end:
            before = usage.of(self.pid).cpu_seconds
            time.sleep(0.2)
            used = usage.of(self.pid).cpu_seconds - before
        self.pause()

    def _port(self, workload: Workload) -> int:
        return self.grpc if workload.transport == "grpc" else self.rest

    def _url(self, workload: Workload) -> str:
        return f"http://127.0.0.1:{self.rest}{self.contender.path(workload)}"


@dataclass
class Engine:
    """The engine alone. Its answers are checked in PyServing, which has the same."""

    engine: EngineAlone

    def answers(self, _: Workload) -> bool:
        return True

    def measure(self, workload: Workload, connections: int, seconds: float) -> Sample:
        before = usage.of(self.engine.pid)
        return _sample(self.engine.pid, before, self.engine.load(workload, connections, seconds))


@contextmanager
def started(contender: Contender, python: Path, models: Path, names: Sequence[str], log: Path) -> Iterator[Server]:
    """The contender with these models loaded, its port open. Raises RuntimeError if it does not start."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        start = Start(python, models, names, free_port(), free_port(), Path(scratch))
        port = start.rest if "rest" in contender.transports else start.grpc
        begun = time.monotonic()
        command, environment = contender.command(start), environment_of(contender, start)
        with running(command, port, environment=environment, folder=Path(scratch), log=log, seconds=180) as pid:
            server = Server(contender, pid, start.rest, start.grpc, models, begun=begun)
            try:
                yield server
            finally:
                server.resume()


@contextmanager
def engine_alone(models: Path, names: Sequence[str]) -> Iterator[Engine]:
    engine = EngineAlone(models, names)
    try:
        yield Engine(engine)
    finally:
        engine.close()


def _sample(pid: int, before: usage.Usage, load: Load) -> Sample:
    after = usage.of(pid)
    return Sample(load, after.cpu_seconds - before.cpu_seconds, after.resident_mb, after.processes)
