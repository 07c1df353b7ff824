"""Starts everybody, checks them, and measures them side by side, round by round."""

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import environments, exported
from benchmarks.answers import WrongAnswerError
from benchmarks.contenders import Contender
from benchmarks.environments import NotAvailableError
from benchmarks.exported import MODELS
from benchmarks.open_loop import Latencies
from benchmarks.rounds import interleaved
from benchmarks.running import ROOT
from benchmarks.servers import Engine, Sample, Server, engine_alone, started
from benchmarks.workloads import WORKLOADS, Workload

LOGS = ROOT / ".cache" / "benchmarks" / "logs"
ENGINE = "engine"
_BETWEEN_SECONDS = 0.8
_START_SECONDS = 12


@dataclass(frozen=True, slots=True)
class Case:
    """A workload in a closed loop."""

    workload: str
    connections: int

    def __str__(self) -> str:
        return f"{self.workload}, {self.connections} connection{'s' if self.connections > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Pace:
    """A workload in an open loop."""

    workload: str
    rate: float
    """Requests per second."""

    def __str__(self) -> str:
        return f"{self.workload}, {self.rate:g} requests per second"


@dataclass(frozen=True, slots=True)
class Plan:
    contenders: Sequence[Contender]
    with_engine: bool
    cases: Sequence[Case]
    paces: Sequence[Pace]
    rounds: int
    seconds: float

    @property
    def asked(self) -> "list[Case | Pace]":
        return [*self.cases, *self.paces]

    @property
    def models(self) -> list[str]:
        return sorted({WORKLOADS[asked.workload].model for asked in self.asked})

    def seconds_of(self, workload: Workload) -> float:
        """Twice as long for the slow ones, or there would be hardly any answers to count."""
        return self.seconds * (2 if workload.slow else 1)

    def expected_seconds(self) -> float:
        """About how long it takes, without what is made once: environments and models."""
        total = float(_START_SECONDS * len(self.contenders))
        for asked in self.asked:
            workload = WORKLOADS[asked.workload]
            many = sum(workload.transport in contender.transports for contender in self.contenders)
            many += self.with_engine and isinstance(asked, Case)
            total += many * self.rounds * (self.seconds_of(workload) + _BETWEEN_SECONDS)
        return total


@dataclass
class Results:
    """What was found, by contender's key."""

    plan: Plan
    samples: dict[tuple[Case, str], list[Sample]] = field(default_factory=dict)
    latencies: dict[tuple[Pace, str], list[Latencies]] = field(default_factory=dict)
    errors: dict[tuple[Case | Pace, str], str] = field(default_factory=dict)
    not_available: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    start_seconds: dict[str, float | None] = field(default_factory=dict)
    idle_shares: dict[str, float] = field(default_factory=dict)


def run(plan: Plan) -> Results:
    """Measures all of the plan. Ctrl-C while it measures ends it early, with what is there by then."""
    results = Results(plan)
    columns = (TextColumn("{task.description:<45}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns) as progress, ExitStack() as stack:
        task = progress.add_task("building models", total=None)
        exported.build(plan.models)
        progress.remove_task(task)
        servers = _start(plan, results, stack, progress)
        engine = stack.enter_context(engine_alone(MODELS, plan.models)) if plan.with_engine else None
        jobs = dict(_jobs(plan, servers, engine, results))
        task = progress.add_task("measuring", total=len(jobs) * plan.rounds)
        shown = {name: _shown(progress, task, name, job) for name, job in jobs.items()}
        try:
            for done, _ in enumerate(interleaved(shown, plan.rounds), 1):
                progress.advance(task)
                if not progress.console.is_terminal and done % len(jobs) == 0:
                    print(f"round {done // len(jobs)} of {plan.rounds} is done", flush=True)
        except KeyboardInterrupt:
            print("stopped; what is measured so far is written")
    return results


def _start(plan: Plan, results: Results, stack: ExitStack, progress: Progress) -> dict[str, Server]:
    LOGS.mkdir(parents=True, exist_ok=True)
    servers = {}
    task = progress.add_task("starting", total=len(plan.contenders))
    for contender in plan.contenders:
        progress.update(task, description=f"starting {contender.label}")
        try:
            python = Path(sys.executable)
            if contender.requirements:
                python = environments.python_for(contender.key, contender.requirements)
                results.versions[contender.key] = environments.versions(python, contender.requirements)
            log = LOGS / f"{contender.key}.log"
            server = stack.enter_context(started(contender, python, MODELS, plan.models, log))
        except (NotAvailableError, RuntimeError) as error:
            results.not_available[contender.key] = " ".join(str(error).split())[:300]
        else:
            _check(plan, server, results)
            servers[contender.key] = server
        progress.advance(task)
    progress.remove_task(task)
    return servers


def _check(plan: Plan, server: Server, results: Results) -> None:
    """Asks for each workload once; for what it answers wrong it is not measured, and the results say why."""
    key, wrong = server.contender.key, {}
    for name in dict.fromkeys(asked.workload for asked in plan.asked):
        if server.answers(WORKLOADS[name]):
            try:
                server.check(WORKLOADS[name])
            except WrongAnswerError as error:
                wrong[name] = str(error)
    results.errors |= {(asked, key): wrong[asked.workload] for asked in plan.asked if asked.workload in wrong}
    server.measure_idle()
    results.start_seconds[key], results.idle_shares[key] = server.start_seconds, server.idle_share
    server.pause()


def _jobs(
    plan: Plan, servers: dict[str, Server], engine: Engine | None, results: Results
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each adds what it finds to the results; where one fails, the reason."""

    def measure(case: Case, key: str, who: Server | Engine) -> None:
        workload = WORKLOADS[case.workload]
        sample = who.measure(workload, case.connections, plan.seconds_of(workload))
        results.samples.setdefault((case, key), []).append(sample)

    def pace(pace: Pace, key: str, server: Server) -> None:
        found = server.paced(WORKLOADS[pace.workload], pace.rate, plan.seconds_of(WORKLOADS[pace.workload]))
        results.latencies.setdefault((pace, key), []).append(found)

    def guarded(asked: Case | Pace, key: str, job: Callable[[], None]) -> None:
        if (asked, key) in results.errors:
            return
        try:
            job()
        except (RuntimeError, ValueError, OSError, subprocess.SubprocessError) as error:
            results.errors[asked, key] = " ".join(str(error).split())[:300]

    for case in plan.cases:
        measured: dict[str, Server | Engine] = {**({ENGINE: engine} if engine else {}), **servers}
        for key, who in measured.items():
            if who.answers(WORKLOADS[case.workload]) and (case, key) not in results.errors:
                yield (
                    f"{key}: {case}",
                    functools.partial(guarded, case, key, functools.partial(measure, case, key, who)),
                )
    for asked in plan.paces:
        for key, server in servers.items():
            if server.answers(WORKLOADS[asked.workload]) and (asked, key) not in results.errors:
                yield (
                    f"{key}: {asked}",
                    functools.partial(guarded, asked, key, functools.partial(pace, asked, key, server)),
                )


def _shown(progress: Progress, task: object, name: str, job: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        progress.update(task, description=name)  # type: ignore[arg-type]
        job()

    return run
