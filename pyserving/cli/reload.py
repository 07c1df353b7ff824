"""``pyserving reload``: tells a server which models to serve."""

import json
from pathlib import Path
from typing import Any

import click

from pyserving.cli.asking import asking, connect, connection_options
from pyserving.cli.ending import usage_errors
from pyserving.cli.status import print_models
from pyserving.client import Client, VersionStatus
from pyserving.client.aio import read_config
from pyserving.core.errors import Code, ServingError


@click.command()
@click.argument("url")
@click.argument("config", type=click.Path(exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
@connection_options
def reload(url: str, config: str, as_json: bool, **options: Any) -> None:
    """Makes the server at URL serve exactly the models of CONFIG, a models.config file, and waits for their versions.

    The paths in it are the server's. A folder that is still being written has no version yet; pyserving status --wait
    waits for it. URL must have the gRPC port, as localhost and grpc://host:8500 do. Exits with 0, with 1 if the server
    refuses, 2 if the command or the file cannot be right, 3 if no server answers.
    """
    with connect(url, options) as client:
        with usage_errors():
            message = read_config(Path(config))
        with asking():
            client.reload(message)
            names = [model.name for model in message.model_config_list.config]
            models = {name: _states(client, name) for name in names}
    if as_json:
        listed = {name: [version._asdict() for version in versions] for name, versions in models.items()}
        click.echo(json.dumps({"models": listed}))
    else:
        print_models(models)


def _states(client: Client, name: str) -> list[VersionStatus]:
    try:
        return client.status(name)
    except ServingError as error:
        if error.code is not Code.NOT_FOUND:
            raise
        return []
