"""``pyserving promote``: sends the requests that name no version to another version."""

from typing import Any

import click

from pyserving.cli.rollout_request import move, rollout_options


@click.command()
@click.argument("model")
@click.argument("version", required=False)
@rollout_options
def promote(model: str, version: str | None, **options: Any) -> None:
    """Makes VERSION of MODEL the default one: a number, or a label; without it the highest that is available.

    The newest version of a model that is not manual is followed by newer ones as before.
    """
    target = {} if version is None else {"version" if version.isdecimal() else "label": version}
    move(model, "promote", target, **options)
