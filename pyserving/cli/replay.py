"""``pyserving replay``: sends recorded requests to a server or a version on disk, and compares the answers."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from glob import glob
from os.path import exists
from typing import TYPE_CHECKING, Any, Protocol

import click
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from pyserving.cli.ending import Exit, ending
from pyserving.cli.number import LONGEST, Number
from pyserving.cli.terminal import errors_to, results_to
from pyserving.core.errors import ServingError, invalid_argument
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.validation.comparison import differences
from pyserving.validation.report import Tally
from pyserving.validation.samples import Method, Sample, parse_answer, read_samples
from pyserving.validation.tolerance import Tolerance, read_tolerance

if TYPE_CHECKING:
    from pyserving.server.local_version import LocalVersion

Key = tuple[str, str, str]
"""Model, method and signature."""


class Target(Protocol):
    """What answers samples."""

    async def answer(self, sample: Sample) -> dict[str, Array]: ...


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the options say."""

    model: str
    version: int | None
    label: str | None
    token: str | None
    timeout: float
    python_models: str


@click.command()
@click.argument("log", metavar="LOG")
@click.argument("target", metavar="URL|PATH")
@click.option("--against", metavar="URL|PATH", help="Compare with its answers; by default with those recorded.")
@click.option("--model", default="", help="Ask for this model, whichever the requests name.")
@click.option("--version", type=int, help="Ask for this version.")
@click.option("--label", help="Ask for the version of this label.")
@click.option("--against-version", type=int, help="The version to ask for at --against.")
@click.option("--rate", type=Number(min=0, min_open=True), help="Requests in a second.")
@click.option("--recorded-rate", is_flag=True, help="Send requests when they were recorded, relative to the first.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Requests in flight, at most.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Send only the first so many.")
@click.option("--relative", type=Number(min=0), help="Floats may differ by so much of what is expected ...")
@click.option("--absolute", type=Number(min=0), help="... plus so much. By default: enough for rounding.")
@click.option("--max-disagreement", type=Number(0, 1), default=0.0, help="The share that may differ.")
@click.option("--timeout", type=Number(0, LONGEST, min_open=True), default=30.0, help="Seconds for one request.")
@click.option("--token", envvar="PYSERVING_TOKEN", help="Sent as Authorization: Bearer TOKEN.")
@click.option(
    "--python-models",
    type=click.Choice(["off", "on", "process"]),
    default="on",
    show_default=True,
    help="Whether code in a model.py at PATH is run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
def replay(
    log: str,
    target: str,
    against: str | None,
    model: str,
    version: int | None,
    label: str | None,
    against_version: int | None,
    rate: float | None,
    recorded_rate: bool,
    concurrency: int,
    limit: int | None,
    relative: float | None,
    absolute: float | None,
    max_disagreement: float,
    timeout: float,
    token: str | None,
    python_models: str,
    as_json: bool,
) -> None:
    """Sends the requests of LOG to URL|PATH, and compares the answers and how long they take.

    LOG is a request log or a warmup file (TFRecords of PredictionLogs), or a pattern of several. URL|PATH is a server
    (localhost, host:8500, http://host:8501) or the folder of a version. The exit code is 0 if all answers agree, 1 if
    some do not, 3 if no request was answered.
    """
    if rate and recorded_rate:
        raise click.UsageError("give --rate or --recorded-rate, not both")
    wanted = _Wanted(model, version, label, token, timeout, python_models)
    other = _Wanted(model, against_version, None, token, timeout, python_models)
    with ending("cannot replay"):
        tolerance = _tolerance(relative, absolute)
        with errors_to().status("asking ...") as shown:
            schedule = _Schedule(_read(log, limit), rate, recorded_rate, shown)
            tallies = asyncio.run(_replay(schedule, target, wanted, against, other, tolerance, concurrency))
        if not tallies:
            raise invalid_argument(f"{log} holds no requests")
    total = Tally()
    for tally in tallies.values():
        total.merge(tally)
    if as_json:
        click.echo(json.dumps(_fields(tallies, total), indent=1))
    else:
        _show(tallies, total)
    if not total.seconds:
        sys.exit(Exit.UNREACHABLE)
    sys.exit(Exit.OK if total.disagreement <= max_disagreement else Exit.FAILED)


class _Schedule:
    """The samples, each when it is due; says how many there were."""

    def __init__(self, samples: Iterator[Sample], rate: float | None, as_recorded: bool, shown: Status) -> None:
        self._samples = samples
        self._shown = shown
        self._rate = rate
        self._as_recorded = as_recorded

    async def due(self) -> AsyncIterator[Sample]:
        start = time.monotonic()
        first = 0
        for number, sample in enumerate(self._samples):
            first = first or sample.recorded_at
            at = 0.0
            if self._rate:
                at = number / self._rate
            elif self._as_recorded and sample.recorded_at:
                at = float(sample.recorded_at - first)
            if (wait := start + at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._shown.update(f"{number + 1} requests ...")
            yield sample


async def _replay(
    schedule: _Schedule,
    where: str,
    wanted: _Wanted,
    against: str | None,
    other: _Wanted,
    tolerance: Tolerance,
    concurrency: int,
) -> dict[Key, Tally]:
    tallies: dict[Key, Tally] = {}
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(_open(where, wanted))
        expecting = None if against is None else await stack.enter_async_context(_open(against, other))
        slots = asyncio.Semaphore(concurrency)

        async def ask(sample: Sample) -> None:
            try:
                key = sample.model_name, sample.method.rpc, sample.signature_name
                await _ask(sample, target, expecting, tolerance, tallies.setdefault(key, Tally()))
            finally:
                slots.release()

        unreadable: ServingError | None = None
        async with asyncio.TaskGroup() as tasks:
            try:
                async for sample in schedule.due():
                    await slots.acquire()
                    tasks.create_task(ask(sample))
            except ServingError as error:  # would leave the group as a group of errors
                unreadable = error
    if unreadable is not None:
        raise unreadable
    return tallies


async def _ask(sample: Sample, target: Target, expecting: Target | None, tolerance: Tolerance, tally: Tally) -> None:
    name = f"record {sample.number}"
    if sample.method is Method.PREDICT_STREAMED and not isinstance(target, _FolderTarget):
        tally.unchecked += 1
        return
    expected: dict[str, Array] | ServingError = sample.response
    if expecting is not None:
        expected = await _timed(expecting, sample, tally.other_seconds)
    found = await _timed(target, sample, tally.seconds)
    match expected, found:
        case ServingError(), ServingError():
            tally.agreed += 1  # both refuse it
        case _, ServingError():
            tally.add_failure(name, str(found))
        case ServingError(), _:
            tally.add_failure(name, f"answered, but not by --against: {expected}")
        case {}, _ if not expected:
            tally.unchecked += 1
        case _:
            assert not isinstance(expected, ServingError)
            assert not isinstance(found, ServingError)
            tally.add(name, differences(expected, found, tolerance))


async def _timed(target: Target, sample: Sample, seconds: Any) -> dict[str, Array] | ServingError:
    start = time.perf_counter()
    try:
        answer = await target.answer(sample)
    except ServingError as error:
        return error
    seconds.append(time.perf_counter() - start)
    return answer


class _FolderTarget:
    """A version that this process has loaded, on a thread of its own, which answers one request at a time."""

    def __init__(self, threads: Executor, version: "LocalVersion", timeout: float) -> None:
        self._threads = threads
        self._version = version
        self._timeout = timeout

    async def answer(self, sample: Sample) -> dict[str, Array]:
        work = partial(self._version.answer, sample.method, sample.request, self._timeout)
        pieces = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        return parse_answer(sample.method, pieces)


@asynccontextmanager
async def _open(where: str, wanted: _Wanted) -> AsyncIterator[Target]:
    # Imported for what is used: to load a model takes much that asking a server does not.
    if exists(where):
        from pyserving.cli.version_folder import find_version
        from pyserving.core.servable import ServableId
        from pyserving.platforms.platform import PlatformContext
        from pyserving.platforms.python.options import PythonModels, PythonOptions
        from pyserving.server.local_version import load_here

        if wanted.version is not None or wanted.label is not None:
            raise invalid_argument(f"{where} is one version; --version and --label are for servers")
        context = PlatformContext(python_options=PythonOptions(PythonModels(wanted.python_models)))
        loop = asyncio.get_running_loop()
        with find_version(where) as folder, ThreadPoolExecutor(1) as threads:
            servable = ServableId(folder.name, folder.version)
            loaded = await loop.run_in_executor(threads, load_here, folder.path, servable, context)
            try:
                yield _FolderTarget(threads, loaded, wanted.timeout)
            finally:
                await loop.run_in_executor(threads, loaded.__exit__)
        return
    from pyserving.cli.server_target import ServerTarget
    from pyserving.client.aio import AsyncClient

    target = ServerTarget(
        AsyncClient(where, timeout=wanted.timeout, retries=0, token=wanted.token),
        model=wanted.model,
        version=wanted.version,
        label=wanted.label,
        timeout=wanted.timeout,
    )
    try:
        yield target
    finally:
        await target.close()


def _read(log: str, limit: int | None) -> Iterator[Sample]:
    paths: Sequence[str] = [log] if exists(log) else sorted(glob(log)) or [log]
    count = 0
    for path in paths:
        for sample in read_samples(path, "log"):
            if count == limit:
                return
            count += 1
            yield sample


def _tolerance(relative: float | None, absolute: float | None) -> Tolerance:
    if relative is None and absolute is None:
        return Tolerance()
    return read_tolerance([messages.Tolerance(relative=relative or 0.0, absolute=absolute or 0.0)])


def _fields(tallies: dict[Key, Tally], total: Tally) -> dict[str, Any]:
    kinds = [
        {"model": model, "method": method, "signature": signature, **tally.to_json()}
        for (model, method, signature), tally in sorted(tallies.items())
    ]
    summary = total.to_json()
    del summary["examples"]
    return {**summary, "disagreement": total.disagreement, "kinds": kinds}


def _show(tallies: dict[Key, Tally], total: Tally) -> None:
    console = results_to()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "method", "signature"):
        table.add_column(heading, no_wrap=True)
    against = bool(total.other_seconds)
    headings = ["agreed", "differed", "failed", "unchecked", "p50 ms", "p99 ms"]
    for heading in headings + (["against p50", "p99"] if against else []):
        table.add_column(heading, justify="right", no_wrap=True)
    for key, tally in [*sorted(tallies.items()), (("all", "", ""), total)]:
        shown = tally.to_json()
        counts = [str(shown[name]) for name in ("agreed", "differed", "failed", "unchecked")]
        times = [shown["latency_ms"], shown.get("against_latency_ms", {})] if against else [shown["latency_ms"]]
        latencies = [f"{time[name]:.3g}" if time else "-" for time in times for name in ("p50", "p99")]
        table.add_row(*map(escape, key), *counts, *latencies)
    console.print(table)
    for (model, method, _), tally in sorted(tallies.items()):
        for example in tally.examples:
            for text in example.texts:
                console.print(
                    f"{model} {method} {example.request}: {text}", markup=False, highlight=False, soft_wrap=True
                )
