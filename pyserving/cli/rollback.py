"""``pyserving rollback``: takes back a promotion, or a new version."""

import click

from pyserving.cli.rollout_request import server_option, tell_moved, token_option


@click.command()
@click.argument("model")
@server_option
@token_option
def rollback(model: str, server: str, token: str | None) -> None:
    """Makes the version of MODEL the default one that was so before, until another is promoted."""
    tell_moved(server, model, "rollback", {}, token)
