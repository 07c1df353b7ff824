"""``pyserving bench``: sends requests to a server and shows throughput and latencies."""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
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
from pyserving.cli.terminal import errors_to, results_to
from pyserving.client import SignatureSpec
from pyserving.client.call import ModelSpec
from pyserving.client.load import Load, LoadGenerator
from pyserving.client.tls import Tls
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array, TensorSpec

PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)
_BARS = 20
_BUSY = 0.9
"""Of a core: from here on this program may be what limits the rate."""


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
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Without --inputs, all ones are sent: as many rows.",
)
@click.option("-c", "--connections", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option(
    "-r",
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Requests a second, at random moments; by default each connection sends when it has its answer.",
)
@click.option(
    "-d",
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that are measured.",
)
@click.option(
    "--warmup", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds before that, which are not."
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
    connections: int,
    rate: float | None,
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
    images = read_image_options(image_size, image_scale, image_gray)
    if png is not None:
        _check_matplotlib()
    with connect(urls[0], options) as client, asking():
        name = choose_model(client, model)
        described = choose_signature(client.metadata(name, version=version, label=label), signature)
    with usage_errors():
        inputs = read_inputs(texts, described.inputs, images) if texts else _ones(described, rows)
        secured = any(options[each] for each in ("tls", "ca", "cert", "key"))
        tls = Tls(options["ca"], options["cert"], options["key"]) if secured else None
        generator = LoadGenerator(urls, connections, tls=tls, token=options["token"], timeout=options["timeout"])
    spec = ModelSpec(name, version, label)
    with asking():
        load = _run(_measure(generator, spec, described, inputs, duration, warmup, rate, not as_json))
    if as_json:
        click.echo(json.dumps(_fields(load)))
    else:
        _show(load)
    if png is not None:
        _plot(load, png)
    if load.failures:
        fail(f"{load.failures.total()} of {load.requests} requests failed", Exit.FAILED)


async def _measure(
    generator: LoadGenerator,
    spec: ModelSpec,
    signature: SignatureSpec,
    inputs: Mapping[str, Array],
    duration: float,
    warmup: float,
    rate: float | None,
    show: bool,
) -> Load:
    try:
        await generator.prepare(lambda codec: codec.predict(spec, signature, inputs, ()))
        load = Load()
        with _progress(load, warmup + duration, show):
            for seconds in (warmup, duration):
                load.latencies.clear()
                load.failures.clear()
                if seconds and rate is None:
                    await generator.closed_loop(seconds, load)
                elif seconds and rate is not None:
                    await generator.open_loop(seconds, rate, load)
        return load
    finally:
        await generator.close()


def _run(measure: Any) -> Load:
    """On uvloop where there is one: what sends faster measures better."""
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        load: Load = runner.run(measure)
        return load


@contextlib.contextmanager
def _progress(load: Load, seconds: float, show: bool) -> Iterator[None]:
    """A bar on the terminal, and nothing where there is none."""
    console = errors_to()
    if not show or not console.is_terminal:
        yield
        return
    columns = (BarColumn(), TextColumn("{task.fields[answered]} answered"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=seconds, answered=0)
        loop = asyncio.get_running_loop()
        start = loop.time()

        async def show_it() -> None:
            while True:
                await asyncio.sleep(0.25)
                progress.update(task, completed=loop.time() - start, answered=load.requests, refresh=True)

        showing = loop.create_task(show_it())
        try:
            yield
        finally:
            showing.cancel()


def _ones(signature: SignatureSpec, rows: int) -> dict[str, Array]:
    return {name: _example(spec, rows) for name, spec in signature.inputs.items()}


def _example(spec: TensorSpec, rows: int) -> Array:
    """``rows`` in the first dimension that is not known, one in the others."""
    shape: list[int] = []
    for position, size in enumerate(spec.shape if spec.shape is not None else (None,)):
        shape.append(size if size is not None else rows if position == 0 else 1)
    if spec.dtype is DType.STRING:
        return np.full(shape, b"text", object)
    return np.ones(shape, np.float32).astype(NUMPY_OF[spec.dtype])


def _fields(load: Load) -> dict[str, Any]:
    answered = bool(load.latencies)
    return {
        "requests": load.requests,
        "failed": load.failures.total(),
        "failures": dict(load.failures),
        "seconds": load.seconds,
        "requests_per_second": load.rate,
        "client_cpu": load.cpu_seconds / load.seconds if load.seconds else 0.0,
        "latency_ms": {_name(p): float(t) * 1e3 for p, t in zip(PERCENTS, load.percentiles(PERCENTS), strict=True)}
        | {"mean": float(np.mean(load.latencies)) * 1e3}
        if answered
        else None,
    }


def _show(load: Load) -> None:
    console = results_to()
    console.print(
        f"[bold]{load.rate:.1f}[/] answers a second: {len(load.latencies)} in {load.seconds:.1f} s, "
        f"{load.failures.total()} failed",
    )
    if load.latencies:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for percent in PERCENTS:
            table.add_column(_name(percent), justify="right")
        table.add_row(*(f"{value * 1e3:.3g} ms" for value in load.percentiles(PERCENTS)))
        console.print(table)
        _bars(console, load.latencies)
    for text, count in load.failures.most_common(5):
        console.print(f"[red]{count} x[/] {escape(text)}", soft_wrap=True)
    if load.seconds and load.cpu_seconds / load.seconds > _BUSY:
        console.print(
            f"[yellow]this program used {load.cpu_seconds / load.seconds:.0%} of a core: the server may do more[/]"
        )


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


def _name(percent: float) -> str:
    return "max" if percent == 100 else f"p{percent:g}"


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
        axes.text(value, max(counts), f" {_name(percent)} {value:.3g} ms", va="top")
    axes.set_title(f"{load.rate:.1f} answers a second")
    try:
        figure.savefig(Path(path))
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", Exit.USAGE)
