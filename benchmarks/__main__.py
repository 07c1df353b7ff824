"""Measures PyServing beside its floors and beside what one would take instead, in one run.

    python -m benchmarks                                     (or: make bench)
    python -m benchmarks --all                               (or: make bench-all)
    python -m benchmarks --quick
    python -m benchmarks --contenders pyserving,fastapi --workloads half_plus_two.rest --connections 8
    python -m benchmarks --reference /path/to/tensorflow_model_server

Writes results.md, results.json, throughput.svg and latency.svg to benchmarks/results/, or to --output FOLDER.
"""

import argparse
import itertools
import json
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import closed_loop, plots, report, suite
from benchmarks.contenders import CONTENDERS, reference
from benchmarks.result_files import RESULTS
from benchmarks.suite import ENGINE, Case, Pace, Plan
from benchmarks.workloads import WORKLOADS

CONNECTIONS = (1, 8, 64)
RATES = (500.0,)

SENSIBLE = [
    *(Case("half_plus_two.rest", connections) for connections in CONNECTIONS),
    *(Case("half_plus_two.grpc", connections) for connections in CONNECTIONS[1:]),
    *(Case(name, 8) for name in ("mnist.rest", "mnist.grpc", "mobilenet_v2.rest")),
    *(Case(name, 8) for name in ("image.json", "image.b64", "image.grpc")),
]
QUICK = [Case("half_plus_two.rest", 8), Case("half_plus_two.grpc", 8)]
PACED = ("half_plus_two.rest", "half_plus_two.grpc")


def plan_of(arguments: list[str] | None = None) -> tuple[Plan, Path]:
    """What the command line asks for, and where the results go. Ends the process where that makes no sense."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measures PyServing beside others.")
    parser.add_argument("--contenders", type=_names, help=f"of {', '.join([ENGINE, *CONTENDERS])}; default: all")
    parser.add_argument("--workloads", type=_names, help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--connections", type=_names, help="so many in each closed loop; default: 1,8,64")
    parser.add_argument("--rates", type=_names, help="requests per second in each open loop; default: 500 for "
                        f"{' and '.join(PACED)}")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for each contender in each round; twice for slow models"
    )
    parser.add_argument("--reference", metavar="PATH", help="a tensorflow_model_server to measure as well")
    parser.add_argument("--quick", action="store_true", help="PyServing and its floors, half_plus_two, one short round")
    parser.add_argument("--all", action="store_true", help="all workloads with all numbers of connections")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="for the results")
    given = parser.parse_args(arguments)
    _known(parser, given.contenders, [ENGINE, *CONTENDERS])
    _known(parser, given.workloads, list(WORKLOADS))

    wanted = given.contenders or (["echo", ENGINE, "pyserving"] if given.quick else [ENGINE, *CONTENDERS])
    contenders = [contender for key, contender in CONTENDERS.items() if key in wanted]
    if given.reference:
        try:
            contenders.append(reference(given.reference))
        except FileNotFoundError as error:
            parser.error(str(error))
    try:
        connections = [int(text) for text in given.connections or ()]
        rates = [float(text) for text in given.rates or ()]
    except ValueError as error:
        parser.error(f"expected numbers: {error}")
    if given.workloads or given.all or connections:
        names = given.workloads or list(WORKLOADS if given.all else dict.fromkeys(case.workload for case in SENSIBLE))
        cases = [Case(name, many) for name, many in itertools.product(names, connections or CONNECTIONS)]
    else:
        names = [case.workload for case in SENSIBLE]
        cases = QUICK if given.quick else SENSIBLE
    paced = names if rates else [name for name in PACED if name in names]
    paces = [] if given.quick else [Pace(name, rate) for name, rate in itertools.product(paced, rates or RATES)]
    rounds, seconds = (1, min(given.seconds, 2.0)) if given.quick else (given.rounds, given.seconds)
    if rounds < 1 or seconds < 1:
        parser.error("expected at least 1 round of at least 1 second")
    return Plan(contenders, ENGINE in wanted, cases, paces, rounds, seconds), given.output


def write(results: suite.Results, before: dict[str, object], after: dict[str, object], folder: Path) -> str:
    """Writes all files; the Markdown is returned as well."""
    folder.mkdir(parents=True, exist_ok=True)
    text = report.markdown(results, before, after)
    (folder / "results.md").write_text(text)
    (folder / "results.json").write_text(json.dumps(report.as_json(results, before, after), indent=1) + "\n")
    if results.samples:
        plots.throughput(results, folder / "throughput.svg")
    if results.latencies:
        plots.latency(results, folder / "latency.svg")
    return text


def main() -> None:
    plan, folder = plan_of()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the servers are stopped as well
    if missing := closed_loop.missing_tools():
        raise SystemExit(f"make bench needs {' and '.join(missing)} (Debian packages wrk and nghttp2-client)")
    console = Console()
    console.print(
        f"{len(plan.contenders)} servers, {len(plan.cases)} closed and {len(plan.paces)} open loops, {plan.rounds} "
        f"rounds: about {max(1, round(plan.expected_seconds() / 60))} min, and at first 5 more to install and build."
    )
    before = report.machine()
    results = suite.run(plan)
    console.print(write(results, before, report.machine(), folder), markup=False, highlight=False, soft_wrap=True)
    console.print(f"Written to {folder}", soft_wrap=True)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _known(parser: argparse.ArgumentParser, names: list[str] | None, known: list[str]) -> None:
    if unknown := sorted(set(names or ()) - set(known)):
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(known)}")


if __name__ == "__main__":
    main()
