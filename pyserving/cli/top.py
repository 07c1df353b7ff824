"""``pyserving top``: a server's models and what they do, live in the terminal."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pyserving.cli.asking import asking, connection_options
from pyserving.cli.ending import usage_errors
from pyserving.cli.number import Number
from pyserving.cli.server_pages import METRICS_PATH, ServerPages, rest_address
from pyserving.cli.terminal import results_to
from pyserving.client import Unreachable
from pyserving.core.errors import ServingError
from pyserving.monitoring.metrics import Distribution, Family
from pyserving.monitoring.summary import summarise


class _Source:
    """What a server tells of itself."""

    def __init__(self, pages: ServerPages, path: str) -> None:
        self._pages = pages
        self._path = path

    def look(self) -> "_Look":
        families = self._pages.metrics(self._path)
        try:
            listed = json.loads(self._pages.get("/v1/models"))["models"]
        except Unreachable:
            raise
        except (ServingError, ValueError, KeyError):
            listed = {}  # TensorFlow Serving has no list of its models
        return _Look(families, listed)


class _Look:
    def __init__(self, families: Sequence[Family], listed: Mapping[str, Any]) -> None:
        self.when = time.monotonic()
        self.summary: dict[str, Any] = summarise(families)
        self.queued = {
            labels[0]: value
            for family in families
            if family.name == "pyserving_queued_requests"
            for labels, value in family.values.items()
            if not isinstance(value, Distribution)
        }
        self.listed = listed


@click.command()
@click.argument("url")
@click.option("--interval", type=Number(0.1, 86400), default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look for one interval, print, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print JSON.")
@click.option("--metrics-path", default=METRICS_PATH, show_default=True)
@connection_options
def top(url: str, interval: float, once: bool, as_json: bool, metrics_path: str, tls: bool, **options: Any) -> None:
    """Shows what the server at URL does, such as http://localhost:8501: rates, latencies, queues, memory.

    It reads the page for Prometheus on the REST port. Of TensorFlow Serving it shows what is there: models that were
    asked, their rates, errors and latencies. With --once it exits with 1 if the server refuses, 3 if none answers.
    """
    if as_json and not once:
        raise click.UsageError("--json needs --once")
    with usage_errors():
        source = _Source(ServerPages(rest_address(url, tls=tls, what="URL"), options), metrics_path)
    if once:
        with asking():
            before = source.look()
            time.sleep(interval)
            state = state_of(before, source.look())
        if as_json:
            click.echo(json.dumps(state))
        else:
            results_to().print(_shown(url, state))
        return
    _watch(url, source, interval)


def _watch(url: str, source: _Source, interval: float) -> None:
    before: _Look | None = None
    state: dict[str, Any] | None = None
    try:
        with Live(Text(f"asking {url}"), console=results_to(), screen=sys.stdout.isatty(), auto_refresh=False) as live:
            while True:
                trouble = ""
                try:
                    now = source.look()
                    state = state_of(before or now, now)
                    before = now
                except ServingError as error:
                    trouble, before = f"{error.message}; trying again", None
                live.update(_shown(url, state, trouble), refresh=True)
                time.sleep(interval)
    except KeyboardInterrupt:
        pass


def state_of(before: _Look, now: _Look) -> dict[str, Any]:
    """What happened between two looks, for JSON. Latencies are in milliseconds, None where nothing was answered."""
    seconds = max(now.when - before.when, 1e-9)
    last, this = before.summary, now.summary
    if this["start"] != last["start"]:  # another server by now: nothing can be compared
        last = this
    models = {
        name: _model(name, last["requests"].get(name, {}), this["requests"].get(name, {}), now, seconds)
        for name in sorted({*now.listed, *this["requests"]})
    }
    return {
        "cpu": max(0.0, this["cpu_seconds"] - last["cpu_seconds"]) / seconds,
        "memory_bytes": this["memory_bytes"],
        "connections": this["connections"],
        "workers": this["workers"],
        "batch_requests": _mean(_difference(last["batches"], this["batches"])),
        "models": models,
    }


def _model(name: str, last: Mapping[str, Any], this: Mapping[str, Any], now: _Look, seconds: float) -> dict[str, Any]:
    latency = _difference(last.get("latency"), this.get("latency"))
    bounds = now.summary["latency_bounds"]
    failed = sum(this.get("errors", {}).values())
    done = this.get("ok", 0) + failed - last.get("ok", 0) - sum(last.get("errors", {}).values())
    return {
        "versions": {one["version"]: one["state"] for one in now.listed.get(name, {}).get("model_version_status", ())},
        "qps": max(0.0, done / seconds),
        "p50_ms": _quantile(latency, bounds, 0.5),
        "p99_ms": _quantile(latency, bounds, 0.99),
        "in_flight": now.summary["in_flight"].get(name, 0),
        "queued": now.queued.get(name, 0),
        "errors": failed,
    }


def _difference(last: Mapping[str, Any] | None, this: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if this is None or last is None or len(last["counts"]) != len(this["counts"]):
        return this
    counts = [new - old for new, old in zip(this["counts"], last["counts"], strict=True)]
    return {"counts": counts, "sum": this["sum"] - last["sum"]}


def _mean(batches: Mapping[str, Any] | None) -> float | None:
    """How many requests shared a run."""
    if batches is None or not sum(batches["counts"]):
        return None
    mean: float = batches["sum"] / sum(batches["counts"])
    return mean


def _quantile(latency: Mapping[str, Any] | None, bounds: Sequence[float], part: float) -> float | None:
    """By the bucket that it lies in, as Prometheus's histogram_quantile has it."""
    total = sum(latency["counts"]) if latency else 0
    if not latency or total <= 0:
        return None
    rank, before, low = part * total, 0, 0.0
    for count, high in zip(latency["counts"], bounds, strict=False):
        if before + count >= rank and count:
            return float(low + (high - low) * (rank - before) / count) / 1e3
        before, low = before + count, high
    return low / 1e3


def _shown(url: str, state: Mapping[str, Any] | None, trouble: str = "") -> RenderableType:
    parts: list[RenderableType] = [f"[bold]{escape(url)}[/]"]
    if trouble:
        parts.append(f"[red]{escape(trouble)}[/]")
    if state is None:
        return Group(*parts)
    batch = state["batch_requests"]
    parts[0] = (
        f"[bold]{escape(url)}[/]  CPU {state['cpu']:.0%}  memory {decimal(int(state['memory_bytes']))}  "
        f"connections {state['connections']:.0f}" + (f"  requests a run {batch:.1f}" if batch else "")
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    table.add_column("versions")
    for heading in ("qps", "p50 ms", "p99 ms", "in flight", "queued", "errors"):
        table.add_column(heading, justify="right")
    for name, model in state["models"].items():
        versions = ", ".join(f"{version} {told}" for version, told in model["versions"].items())
        times = ["-" if model[key] is None else f"{model[key]:.2f}" for key in ("p50_ms", "p99_ms")]
        counts = [f"{model[key]:.0f}" for key in ("in_flight", "queued", "errors")]
        table.add_row(escape(name), escape(versions), f"{model['qps']:.1f}", *times, *counts)
    return Group(*parts, table)
