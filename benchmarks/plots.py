"""The results as pictures (SVG)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.open_loop import PERCENTILES
from benchmarks.report import OURS, labels, number, pace_summary, summary
from benchmarks.suite import Case, Pace, Results

_OURS, _FLOOR, _OTHER = "#d95f02", "#bbbbbb", "#4c78a8"
_SETTINGS: Any = {"svg.fonttype": "none", "font.size": 8, "svg.hashsalt": "pyserving"}


def throughput(results: Results, path: Path) -> None:
    """Requests per second, and the server's CPU time per request: a row of bars for each case, on scales of powers."""
    cases = [case for case in results.plan.cases if any(key[0] == case for key in results.samples)]
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(9, 1.9 * len(cases) + 0.4), layout="constrained")
        axes = figure.subplots(len(cases), 2, squeeze=False)
        for row, case in zip(axes, cases, strict=True):
            _bars(row[0], results, case, "requests_per_second", "requests per second")
            _bars(row[1], results, case, "cpu_ms_per_request", "CPU time per request, ms")
            row[1].tick_params(labelleft=False)
        figure.savefig(path, metadata={"Date": None})


def latency(results: Results, path: Path) -> None:
    """Percentiles of latency at a fixed rate, waiting included."""
    paces = [pace for pace in results.plan.paces if any(key[0] == pace for key in results.latencies)]
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(9, 2.4 * len(paces) + 0.4), layout="constrained")
        for axis, pace in zip(figure.subplots(len(paces), 1, squeeze=False)[:, 0], paces, strict=True):
            _percentiles(axis, results, pace)
        figure.savefig(path, metadata={"Date": None})


def _bars(axis: Axes, results: Results, case: Case, figure: str, title: str) -> None:
    shown = [(key, label) for key, label in reversed(labels(results).items()) if (case, key) in results.samples]
    values = [summary(results, case, key)[figure] for key, _ in shown]
    axis.barh([label for _, label in shown], values, color=_colours(results, [key for key, _ in shown]))
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(NullLocator())  # each bar has its number
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(x=0.15)
    axis.bar_label(axis.containers[0], [number(value) for value in values], padding=2)  # type: ignore[arg-type]
    axis.set_title(f"{case}: {title}", loc="left", fontsize=8)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _percentiles(axis: Axes, results: Results, pace: Pace) -> None:
    names = [f"p{percent:g}" for percent in PERCENTILES]
    for key, label in labels(results).items():
        if (pace, key) in results.latencies:
            figures = pace_summary(results.latencies[pace, key])
            width = 2.5 if key == OURS else 1.2
            axis.plot(names, [figures[f"{name}_ms"] for name in names], marker="o", markersize=3, lw=width, label=label)
    axis.set_yscale("log")
    axis.set_ylabel("ms")
    axis.set_title(f"{pace}: latency, waiting included", loc="left", fontsize=8)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _colours(results: Results, keys: Sequence[str]) -> list[str]:
    computing = {contender.key for contender in results.plan.contenders if not contender.is_floor}
    return [_OURS if key == OURS else _OTHER if key in computing else _FLOOR for key in keys]
