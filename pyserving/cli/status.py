"""``pyserving status``: the models of a server and the states of their versions."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from pyserving.cli.asking import asking, connect, connection_options, list_models
from pyserving.cli.number import Number
from pyserving.cli.terminal import errors_to, results_to
from pyserving.client import VersionStatus

_STYLES = {"AVAILABLE": "green", "LOADING": "yellow", "START": "yellow", "UNLOADING": "yellow", "END": "dim"}


@click.command()
@click.argument("url")
@click.option("-m", "--model", "names", multiple=True, help="Only this model; may be given several times.")
@click.option("--wait", type=Number(min=0), help="Wait so many seconds until the server, or the models, are ready.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
@connection_options
def status(url: str, names: tuple[str, ...], wait: float | None, as_json: bool, **options: Any) -> None:
    """Shows what the server at URL serves.

    TensorFlow Serving has no list of its models: name them with --model. Exits with 0, with 1 if the server knows no
    such model, or is not ready within --wait seconds, 2 if the command cannot be right, 3 if no server answers.
    """
    with connect(url, options) as client, asking():
        if wait is not None:
            client.wait_until_ready(*names, timeout=wait)
        models: Mapping[str, Sequence[VersionStatus]]
        models = {name: client.status(name) for name in names} if names else list_models(client)
        ready = client.ready()
    if as_json:
        listed = {name: [version._asdict() for version in versions] for name, versions in models.items()}
        click.echo(json.dumps({"ready": ready, "models": listed}))
    else:
        print_models(models)
        if not ready:
            errors_to().print("[yellow]the server is not ready[/]")


def print_models(models: Mapping[str, Sequence[VersionStatus]]) -> None:
    """A table with a line for each version."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "version", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("error", overflow="fold")
    for name, versions in models.items():
        if not versions:
            table.add_row(escape(name), "", "no version", "")
        for position, one in enumerate(versions):
            failed = one.error_code != "OK"
            table.add_row(
                "" if position else escape(name),
                str(one.version),
                f"[{'red' if failed else _STYLES.get(one.state, '')}]{one.state}[/]" if one.state else "",
                escape(f"{one.error_code}: {one.error_message}") if failed else "",
            )
    results_to().print(table)
