"""``pyserving keys``: the file of API keys that ``pyserving serve --api-keys`` reads."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from pyserving.api.access import Role
from pyserving.core.errors import ServingError
from pyserving.server.key_file import add_key, read_keys, remove_key

_FILE = click.argument("file", type=click.Path(dir_okay=False))


@click.group()
def keys() -> None:
    """Makes, lists and withdraws API keys. A server that runs sees the change within a second or two."""


@keys.command()
@_FILE
@click.option("--name", required=True, help="Whose key it is: shown in logs and refusals.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice([role.value for role in Role]),
    help="predict: inference; read: states, metadata, metrics; admin: change what is served.",
)
@click.option("--model", "models", multiple=True, help="Only models of this name (* and ? match).")
def add(file: str, name: str, roles: tuple[str, ...], models: tuple[str, ...]) -> None:
    """Adds a key to FILE and prints its token: once, for FILE keeps a hash only."""
    with _errors_told():
        token = add_key(file, name, [Role(role) for role in dict.fromkeys(roles)], models)
        click.echo(token)
        click.echo("This is the only time that the token is shown.", err=True)


@keys.command("list")
@_FILE
def list_keys(file: str) -> None:
    """Shows the keys in FILE."""
    with _errors_told():
        for key in read_keys(file).values():
            roles = ",".join(role.value for role in Role if role in key.roles)
            click.echo(f"{key.name}  {roles}  {','.join(key.models) or 'all models'}")


@keys.command()
@_FILE
@click.option("--name", required=True, help="Whose key it is.")
def remove(file: str, name: str) -> None:
    """Withdraws a key from FILE."""
    with _errors_told():
        remove_key(file, name)


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except ServingError as error:
        click.echo(error.message, err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"{error.filename or os.curdir}: {error.strerror}", err=True)
        sys.exit(1)
