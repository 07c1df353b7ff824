"""``pyserving optimize``: finds the fastest engine for a version before a server needs it."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyserving.acceleration.accelerator import Acceleration, AccelerationOptions
from pyserving.acceleration.cache import default_root
from pyserving.cli.ending import ending
from pyserving.cli.terminal import errors_to, results_to
from pyserving.core.errors import Code, ServingError
from pyserving.server.optimize import OptimizedSignature
from pyserving.server.optimize import optimize as optimize_version
from pyserving.sources.version_folders import list_versions


@click.command()
@click.argument("path", metavar="BASE/VERSION")
@click.option(
    "--engine",
    type=click.Choice([choice.value for choice in Acceleration if choice is not Acceleration.OFF]),
    default=Acceleration.AUTO.value,
    show_default=True,
    help="What to try; auto: all that is installed.",
)
@click.option(
    "--acceleration-cache",
    type=click.Path(file_okay=False),
    default=default_root(),
    help="Folder for what is compiled; by default pyserving/acceleration in the user's cache.",
)
@click.option("--tags", default="serve", show_default=True, help="Tags of the graph to load, with commas between.")
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Threads that share one operation; 0: as many as there are cores.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
def optimize(path: str, engine: str, acceleration_cache: str, tags: str, threads: int, as_json: bool) -> None:
    """Tries other engines than TensorFlow on the SavedModel in BASE/VERSION, and shows how each does.

    A server with the same cache, tags and threads, on the same CPUs, then uses the chosen ones at once.
    """
    options = AccelerationOptions(
        Acceleration(engine),
        acceleration_cache,
        tags=tuple(tag for tag in tags.split(",") if tag),
        num_threads=threads,
    )
    folder = os.path.abspath(path)
    # On a terminal it says what it is at; elsewhere it prints nothing.
    with ending("cannot optimize"), errors_to().status("loading") as status:
        _check(folder)
        found = optimize_version(folder, options, lambda step: status.update(escape(f"{step} ...")))
    if as_json:
        click.echo(json.dumps({"path": folder, "cache": acceleration_cache, "signatures": _fields(found)}, indent=1))
    else:
        # Wide enough that nothing is cut off.
        _show(results_to(least_width=120), found)


def _check(folder: str) -> None:
    try:
        versions = list_versions(folder)[0]
    except FileNotFoundError:
        raise ServingError(Code.NOT_FOUND, f"no folder at {folder}") from None
    except NotADirectoryError:
        raise ServingError(Code.INVALID_ARGUMENT, f"{folder} is a file; expected the folder of a version") from None
    if versions:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"{folder} holds versions; expected one of them, such as {os.path.join(folder, str(max(versions)))}",
        )


def _show(console: Console, found: Mapping[str, OptimizedSignature]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("signature", "engine", "rows"):
        table.add_column(heading, no_wrap=True)
    for heading in ("TF ms", "ms", "faster", "differs by"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for name, signature in found.items():
        for engine, finding in signature.findings.items():
            verdict = finding.verdict
            first = [escape(name), engine, f"{verdict.largest_difference:.2g}" if verdict.timings else ""]
            first.append("[green]chosen" if engine == signature.engine else "no")
            for timing in verdict.timings:
                rows, times = escape(timing.rows), [f"{timing.tensorflow * 1e3:.3g}", f"{timing.engine * 1e3:.3g}"]
                table.add_row(first[0], first[1], rows, *times, f"{timing.gain:.2f} x", first[2], first[3])
                first = ["", "", "", ""]
    if table.row_count:
        console.print(table)
        console.print()
    for name, signature in found.items():
        console.print(f"{escape(name)}: [bold]{signature.engine}[/]", highlight=False, soft_wrap=True)
        for engine, reason in signature.reasons.items():
            console.print(f"  not {engine}: {escape(reason)}", highlight=False, soft_wrap=True)


def _fields(found: Mapping[str, OptimizedSignature]) -> dict[str, Any]:
    return {
        name: {
            "engine": signature.engine,
            "tried": {engine: _finding_fields(signature, engine) for engine in signature.findings},
            "others": dict(signature.reasons),
        }
        for name, signature in found.items()
    }


def _finding_fields(signature: OptimizedSignature, engine: str) -> dict[str, Any]:
    finding = signature.findings[engine]
    difference = finding.verdict.largest_difference
    return {
        "chosen": engine == signature.engine,
        "cached": finding.cached,
        "gain": finding.verdict.gain,
        "largest_difference": difference if math.isfinite(difference) else None,
        "timings": [
            {"rows": timing.rows, "tensorflow_ms": timing.tensorflow * 1e3, "engine_ms": timing.engine * 1e3}
            for timing in finding.verdict.timings
        ],
    }
