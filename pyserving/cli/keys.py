"""``pyserving keys``: the file of API keys that ``pyserving serve --api-keys`` reads."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from pyserving.api.access import Role
from pyserving.cli.ending import Exit, fail
from pyserving.core.errors import ServingError
from pyserving.server.key_file import add_key, read_keys, remove_key

_FILE = click.argument("file", type=click.Path(dir_okay=False))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON in place of text.")


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
@_JSON
def add(file: str, name: str, roles: tuple[str, ...], models: tuple[str, ...], as_json: bool) -> None:
    """Adds a key to FILE and prints its token: once, for FILE keeps a hash only."""
    with _errors_told():
        token = add_key(file, name, [Role(role) for role in dict.fromkeys(roles)], models)
        click.echo(json.dumps({"name": name, "token": token}) if as_json else token)
        click.echo("This is the only time that the token is shown.", err=True)


@keys.command("list")
@_FILE
@_JSON
def list_keys(file: str, as_json: bool) -> None:
    """Shows the keys in FILE."""
    with _errors_told():
        found = [(key, [role.value for role in Role if role in key.roles]) for key in read_keys(file).values()]
    if as_json:
        listed = [{"name": key.name, "roles": roles, "models": list(key.models)} for key, roles in found]
        click.echo(json.dumps({"keys": listed}))
        return
    for key, roles in found:
        click.echo(f"{key.name}  {','.join(roles)}  {','.join(key.models) or 'all models'}")


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
        fail(error.message, Exit.FAILED)
    except OSError as error:
        fail(f"{error.filename or os.curdir}: {error.strerror}", Exit.FAILED)
