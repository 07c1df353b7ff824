"""``pyserving plan``: how many servers a load needs, from a benchmark of one."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from pyserving.cli.ending import Exit, ending, fail
from pyserving.cli.number import Number
from pyserving.cli.terminal import errors_to, results_to
from pyserving.planning.benchmark import read_benchmark
from pyserving.planning.plan import Plan, Planner, Prediction, Target
from pyserving.planning.simulation import Balancing

_MOST = 1e12
"""Requests a second, milliseconds: more is a slip of the hand."""
_MOST_REPLICAS = 10**9


@click.command()
@click.argument("benchmark", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--rate", type=Number(0, _MOST, min_open=True), required=True, help="Requests a second.")
@click.option(
    "--p99",
    "p99_ms",
    type=Number(0, _MOST, min_open=True),
    help="Milliseconds that 99 % of the requests may take at most.",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, _MOST_REPLICAS),
    help="Say what so many would do, without looking for a number.",
)
@click.option(
    "--spare",
    type=click.IntRange(0, _MOST_REPLICAS),
    default=1,
    show_default=True,
    help="Replicas that may be away, lost or restarted one by one, while the target still holds.",
)
@click.option(
    "--max-utilization",
    type=Number(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Part of what the replicas can answer at all that may be asked of them.",
)
@click.option(
    "--balancing",
    type=click.Choice([choice.value for choice in Balancing]),
    default=Balancing.RANDOM.value,
    show_default=True,
    help="How requests are spread. random: by many clients, or by connections; least: one client, or one proxy, sends "
    "each to the replica with the fewest under way.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
def plan(
    benchmark: str,
    rate: float,
    p99_ms: float | None,
    replicas: int | None,
    spare: int,
    max_utilization: float,
    balancing: str,
    as_json: bool,
) -> None:
    """Says how many replicas of a server a load needs, and how much memory and how many cores each.

    FILE is what `pyserving bench URL --sweep --json` wrote of one of them (-: standard input). Requests are taken to
    come at random moments. Exits with 0, with 1 if the benchmark will not do or no number of replicas is enough, with 2
    if the command cannot be right.
    """
    if (p99_ms is None) == (replicas is None):
        raise click.UsageError("give --p99 to have a number of replicas found, or --replicas to be told what they do")
    read = _read_json(benchmark)
    with ending("cannot plan"):
        planner = Planner(read_benchmark(read))
        p99 = float("inf") if p99_ms is None else p99_ms / 1e3
        target = Target(rate, p99, spare, max_utilization, Balancing(balancing))
        with errors_to().status("simulating ..."):
            found = planner.predict(replicas, target) if replicas is not None else planner.plan(target)
    if as_json:
        told = _plan_json(found) if isinstance(found, Plan) else {"prediction": _prediction_json(found)}
        click.echo(json.dumps({**told, "model": _model_json(planner), "warnings": planner.warnings()}))
        return
    console = results_to()
    if isinstance(found, Plan):
        _show_plan(console, found)
    else:
        _show_predictions(console, [("", found)])
    _show_checks(console, planner)
    for text in planner.warnings():
        errors_to().print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)


def _read_json(path: str) -> Any:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", Exit.USAGE)
    except (ValueError, RecursionError) as error:
        fail(f"{path} is no JSON: {error}", Exit.USAGE)


def _show_plan(console: Console, found: Plan) -> None:
    target, spare = found.target, found.target.spare
    console.print(
        f"[bold]{found.replicas} replicas[/] for {_plain(target.rate, 4)} requests a second with p99 up to "
        f"{_plain(target.p99 * 1e3, 4)} ms" + (f", of which {spare} may be away" if spare else ""),
        soft_wrap=True,
    )
    rows = [("", found.all)]
    _show_predictions(console, [*rows, (f"{spare} away", found.needed)] if spare else rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("cores", "memory"):
        table.add_column(heading, justify="right")
    for name, count in (("each replica", 1), ("in all", found.replicas)):
        cores = "not known" if found.cores_each is None else _plain(found.cores_each * count, 2)
        memory = "not known" if found.memory_each is None else decimal(int(found.memory_each * count))
        table.add_row(name, cores, memory)
    console.print(table)


def _show_predictions(console: Console, rows: list[tuple[str, Prediction]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("replicas", "requests/s each", "utilization", "p50 ms", "p99 ms", "cores used by each"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for what, one in rows:
        table.add_row(
            str(one.replicas),
            _plain(one.rate / one.replicas, 4),
            f"{one.utilization:.0%}",
            _plain(one.p50 * 1e3, 3),
            _plain(one.p99 * 1e3, 3),
            "-" if one.cores is None else _plain(one.cores, 2),
            what,
        )
    console.print(table)


def _show_checks(console: Console, planner: Planner) -> None:
    station = planner.station
    console.print(
        f"one replica: {_plain(station.capacity, 4)} requests a second at most, {len(station.speeds)} at the same "
        f"time; {_plain(station.mean * 1e3, 3)} ms for one by itself"
    )
    for check in planner.checks:
        console.print(
            f"  at {_plain(check.rate, 4)} a second ({check.utilization:.0%}): "
            f"p99 {_plain(check.measured_p99 * 1e3, 3)} ms, by the model {_plain(check.model_p99 * 1e3, 3)} ms"
        )
    if planner.correction > 1:
        console.print(f"  so the model's latencies are taken times {_plain(planner.correction, 3)}")


def _plain(number: float, digits: int) -> str:
    """So many significant digits, and never an exponent."""
    return f"{float(f'{number:.{digits}g}'):.15g}"


def _prediction_json(found: Prediction) -> dict[str, Any]:
    return {
        "replicas": found.replicas,
        "requests_per_second": found.rate,
        "utilization": found.utilization,
        "p50_ms": found.p50 * 1e3,
        "p99_ms": found.p99 * 1e3,
        "cores_used_each": found.cores,
    }


def _plan_json(found: Plan) -> dict[str, Any]:
    cores, memory, count = found.cores_each, found.memory_each, found.replicas
    return {
        "replicas": count,
        "spare": found.target.spare,
        "each": {"cores": cores, "memory_bytes": memory},
        "total": {
            "cores": None if cores is None else cores * count,
            "memory_bytes": None if memory is None else memory * count,
        },
        "all": _prediction_json(found.all),
        "spare_away": _prediction_json(found.needed),
    }


def _model_json(planner: Planner) -> dict[str, Any]:
    station = planner.station
    return {
        "capacity": station.capacity,
        "at_the_same_time": len(station.speeds),
        "alone_ms": station.mean * 1e3,
        "floor_p99_ms": planner.floor * 1e3,
        "correction": planner.correction,
        "checks": [
            {
                "requests_per_second": check.rate,
                "utilization": check.utilization,
                "measured_p99_ms": check.measured_p99 * 1e3,
                "model_p99_ms": check.model_p99 * 1e3,
            }
            for check in planner.checks
        ],
    }
