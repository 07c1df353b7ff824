"""``pyserving bench``: sends requests to a server and shows throughput and latencies."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from pyserving.cli.asking import (
    asking,
    choose_model,
    choose_signature,
    connect,
    connection_options,
    inputs_option,
)
from pyserving.cli.ending import Exit, fail, usage_errors
from pyserving.cli.image_options import image_options, read_image_options
from pyserving.cli.inputs import read_inputs
from pyserving.cli.load_runs import PERCENTS, LoadRun, LoadRuns, percent_name
from pyserving.cli.number import Number
from pyserving.cli.server_pages import rest_address
from pyserving.cli.server_usage import UsageMeter
from pyserving.cli.terminal import results_to
from pyserving.client import SignatureSpec
from pyserving.client.call import Call, Codec, ModelSpec
from pyserving.client.load import Load, LoadGenerator
from pyserving.client.tls import Tls
from pyserving.core.errors import invalid_argument
from pyserving.planning.benchmark import MOST_CLIENT_CPU
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array, TensorSpec

T = TypeVar("T")

_BARS = 20
_MOST_IN_SWEEP = 64
_MOST_ROWS = 10**9
_MOST_RATE = 1e6
"""Requests a second: more is a slip of the hand."""


@click.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("-m", "--model", help="Name of the model; may be left out where the server has only one.")
@click.option("--version", type=click.IntRange(min=0), help="Number of the version.")
@click.option("--label", help="Label of the version.")
@click.option("-s", "--signature", default="serving_default", show_default=True)
@inputs_option
@image_options
@click.option(
    "--rows",
    type=click.IntRange(1, _MOST_ROWS),
    default=1,
    show_default=True,
    help="Without --inputs, all ones are sent: as many rows.",
)
@click.option("-c", "--connections", type=click.IntRange(1, 1000), help="By default 8; with --sweep 64 at most.")
@click.option(
    "-r",
    "--rate",
    type=Number(0, _MOST_RATE, min_open=True),
    help="Requests a second, at random moments; by default each connection sends when it has its answer.",
)
@click.option(
    "--sweep",
    is_flag=True,
    help="Measure with 1, 2, 4 ... connections, until more bring no more, then at rates: what pyserving plan needs.",
)
@click.option("--metrics", metavar="URL", help="REST port that has the server's metrics, where URL is that of gRPC.")
@click.option(
    "-d",
    "--duration",
    type=Number(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that are measured, of each load.",
)
@click.option(
    "--warmup", type=Number(min=0), default=1.0, show_default=True, help="Seconds before that, which are not."
)
@click.option("--png", type=click.Path(dir_okay=False, writable=True), help="Write a plot of the latencies too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
@connection_options
def bench(
    urls: tuple[str, ...],
    model: str | None,
    version: int | None,
    label: str | None,
    signature: str,
    texts: tuple[str, ...],
    image_size: str | None,
    image_scale: str | None,
    image_gray: bool | None,
    rows: int,
    connections: int | None,
    rate: float | None,
    sweep: bool,
    metrics: str | None,
    duration: float,
    warmup: float,
    png: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Puts load on the server at URL (several: in turn), over the protocol that answers there.

    One process sends all: over REST some thousands of requests a second, over gRPC fewer; it says so when it was the
    limit itself. Exits with 0 if all was answered, 1 if the server refused any, 2 if the command cannot be right, 3 if
    no server answers.
    """
    if sweep and (rate is not None or png is not None):
        raise click.UsageError("--sweep chooses its rates, and has no plot: it goes without --rate and --png")
    connections = connections or (_MOST_IN_SWEEP if sweep else 8)
    images = read_image_options(image_size, image_scale, image_gray)
    if png is not None:
        _check_matplotlib()
    with connect(urls[0], options) as client, asking():
        name = choose_model(client, model)
        described = choose_signature(client.metadata(name, version=version, label=label), signature)
        addresses = client.protocols()
    with usage_errors():
        inputs = read_inputs(texts, described.inputs, images) if texts else _ones(described, rows)
        secured = any(options[each] for each in ("tls", "ca", "cert", "key"))
        tls = Tls(options["ca"], options["cert"], options["key"]) if secured else None
        generator = LoadGenerator(urls, connections, tls=tls, token=options["token"], timeout=options["timeout"])
        if metrics is not None:
            addresses = [rest_address(metrics, tls=options["tls"], what="--metrics")]
    spec = ModelSpec(name, version, label)
    meter = UsageMeter(addresses if len(urls) == 1 else (), options)
    runs = LoadRuns(generator, meter, duration=duration, warmup=warmup, show=not as_json)
    with asking():
        done = _run(
            _measure(
                generator,
                lambda codec: codec.predict(spec, described, inputs, ()),
                partial(runs.sweep, connections) if sweep else partial(_only, runs, connections, rate),
            )
        )
    if sweep:
        _tell_sweep(done, {"urls": urls, "model": name, "signature": signature}, as_json=as_json)
    elif as_json:
        click.echo(json.dumps(done[0].to_json()))
    else:
        _show(done[0])
    if png is not None:
        _plot(done[0].load, png)
    failed = sum(run.load.failures.total() for run in done)
    if failed:
        fail(f"{failed} of {sum(run.load.requests for run in done)} requests failed", Exit.FAILED)


async def _only(runs: LoadRuns, connections: int, rate: float | None) -> AsyncIterator[LoadRun]:
    yield await runs.run(connections, rate)


async def _measure(
    generator: LoadGenerator,
    prepare: Callable[[Codec], Call[object]],
    measure: Callable[[], AsyncIterator[LoadRun]],
) -> list[LoadRun]:
    try:
        await generator.prepare(prepare)
        return [run async for run in measure()]
    finally:
        await generator.close()


def _run(measure: Coroutine[Any, Any, T]) -> T:
    """On uvloop where there is one: what sends faster measures better."""
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(measure)


def _ones(signature: SignatureSpec, rows: int) -> dict[str, Array]:
    """Raises INVALID_ARGUMENT where so many rows are too large."""
    try:
        return {name: _example(spec, rows) for name, spec in signature.inputs.items()}
    except MemoryError:
        raise invalid_argument(f"expected --rows that fit into memory, got {rows}") from None


def _example(spec: TensorSpec, rows: int) -> Array:
    """``rows`` in the first dimension that is not known, one in the others."""
    shape: list[int] = []
    for position, size in enumerate(spec.shape if spec.shape is not None else (None,)):
        shape.append(size if size is not None else rows if position == 0 else 1)
    if spec.dtype is DType.STRING:
        return np.full(shape, b"text", object)
    return np.ones(shape, np.float32).astype(NUMPY_OF[spec.dtype])


def _tell_sweep(runs: Sequence[LoadRun], what: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        points = [run.to_json() for run in runs]
        points[0]["service_times_ms"] = runs[0].service_times_ms()
        click.echo(json.dumps({**what, "points": points}))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("load", no_wrap=True)
    for heading in ("answers/s", "failed", "p50 ms", "p99 ms", "CPU ms each", "cores", "MB", "cores of this program"):
        table.add_column(heading, justify="right")
    for run in runs:
        load = run.load
        told = run.to_json()
        server = told["server"] or {}
        units = {"cpu_ms_per_request": 1.0, "cores": 1.0, "memory_bytes": 1e6}
        cpu, cores, memory = (
            "-" if server.get(name) is None else f"{server[name] / unit:.3g}" for name, unit in units.items()
        )
        p50, p99 = (f"{value * 1e3:.3g}" for value in load.percentiles((50.0, 99.0)))
        sent = f"{run.connections} connections" if run.rate is None else f"{run.rate:.4g} a second"
        client = f"{told['client_cpu']:.2f}"
        table.add_row(sent, f"{load.rate:.1f}", str(load.failures.total()), p50, p99, cpu, cores, memory, client)
    results_to().print(table)
    _tell_failures([run.load for run in runs])


def _show(run: LoadRun) -> None:
    console, load = results_to(), run.load
    console.print(
        f"[bold]{load.rate:.1f}[/] answers a second: {len(load.latencies)} in {load.seconds:.1f} s, "
        f"{load.failures.total()} failed",
    )
    if load.latencies:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for percent in PERCENTS:
            table.add_column(percent_name(percent), justify="right")
        table.add_row(*(f"{value * 1e3:.3g} ms" for value in load.percentiles(PERCENTS)))
        console.print(table)
        _bars(console, load.latencies)
    _tell_failures([load])
    if run.usage is not None and load.latencies:
        told = run.usage.to_json(len(load.latencies))
        console.print(
            f"the server used {told['cpu_ms_per_request']:.3g} ms of CPU time for each, "
            f"and has {decimal(int(run.usage.memory))} of memory"
        )
    if load.seconds and load.cpu_seconds / load.seconds > MOST_CLIENT_CPU:
        console.print(
            f"[yellow]this program used {load.cpu_seconds / load.seconds:.0%} of a core: the server may do more[/]"
        )


def _tell_failures(loads: Sequence[Load]) -> None:
    failures = sum((load.failures for load in loads), Counter[str]())
    for text, count in failures.most_common(5):
        results_to().print(f"[red]{count} x[/] {escape(text)}", soft_wrap=True)


def _bars(console: Console, latencies: Sequence[float]) -> None:
    """A histogram; each bar is for a range of times that is a constant factor wider than the last."""
    counts, edges = _histogram(latencies, _BARS)
    most = max(counts)
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        bar = "█" * round(40 * count / most) or ("▏" if count else "")
        console.print(f"{low * 1e3:9.3g} to {high * 1e3:<9.3g}ms {bar} {count or ''}")


def _histogram(latencies: Sequence[float], bars: int) -> tuple[list[int], list[float]]:
    low, high = max(min(latencies), 1e-6), max(latencies)
    counts, edges = np.histogram(latencies, np.geomspace(low * 0.999, max(high, low * 1.01) * 1.001, bars + 1))
    return counts.tolist(), edges.tolist()


def _check_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        fail("--png needs matplotlib: pip install matplotlib", Exit.USAGE)


def _plot(load: Load, path: str) -> None:
    if not load.latencies:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    counts, edges = _histogram(load.latencies, 60)
    axes.stairs(counts, [edge * 1e3 for edge in edges], fill=True)
    axes.set_xscale("log")
    axes.set_xlabel("latency, ms")
    axes.set_ylabel("requests")
    for percent in (50.0, 99.0):
        value = float(load.percentiles([percent])[0]) * 1e3
        axes.axvline(value, color="black", linewidth=0.8)
        axes.text(value, max(counts), f" {percent_name(percent)} {value:.3g} ms", va="top")
    axes.set_title(f"{load.rate:.1f} answers a second")
    try:
        figure.savefig(Path(path))
    except (OSError, ValueError) as error:  # ValueError: a format that matplotlib does not know
        why = error.strerror if isinstance(error, OSError) else error
        fail(f"{path} cannot be written: {why}", Exit.USAGE)
