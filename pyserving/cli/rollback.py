"""``pyserving rollback``: takes back a promotion, or a new version."""

from typing import Any

import click

from pyserving.cli.rollout_request import move, rollout_options


@click.command()
@click.argument("model")
@rollout_options
def rollback(model: str, **options: Any) -> None:
    """Makes the version of MODEL the default one that was so before, until another is promoted."""
    move(model, "rollback", {}, **options)
