"""``pyserving promote``: sends the requests that name no version to another version."""

import click

from pyserving.cli.rollout_request import server_option, tell_moved, token_option


@click.command()
@click.argument("model")
@click.argument("version", required=False)
@server_option
@token_option
def promote(model: str, version: str | None, server: str, token: str | None) -> None:
    """Makes VERSION of MODEL the default one: a number, or a label; without it the highest that is available.

    The newest version of a model that is not manual is followed by newer ones as before.
    """
    target = {} if version is None else {"version" if version.isdigit() else "label": version}
    tell_moved(server, model, "promote", target, token)
