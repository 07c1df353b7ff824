"""Asks a server to move the default version of a model."""

import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import quote

import click
import orjson

from pyserving.cli.ending import Exit, ending
from pyserving.cli.terminal import errors_to
from pyserving.core.errors import Code, ServingError

_SECONDS = 600.0
"""A version that is to be promoted may have to be loaded first."""

server_option = click.option(
    "--server", default="http://127.0.0.1:8501", show_default=True, help="Its REST port.", metavar="URL"
)
token_option = click.option("--token", envvar="PYSERVING_TOKEN", help="Sent as Authorization: Bearer TOKEN.")


def tell_moved(server: str, model: str, action: str, body: Mapping[str, str], token: str | None) -> None:
    """Asks, and says what came of it; ends the process with an exit code where that failed."""
    with ending(f"cannot {action} {model}"):
        try:
            moved = _ask(server, model, action, body, token)
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            errors_to().print(f"{server} does not answer: {reason}", markup=False, soft_wrap=True)
            sys.exit(Exit.UNREACHABLE)
    click.echo(f"{model}: version {moved['version']} is the default one, before it was {moved['previous_version']}")


def _ask(server: str, model: str, action: str, body: Mapping[str, str], token: str | None) -> dict[str, str]:
    url = f"{server if '://' in server else f'http://{server}'}/v1/models/{quote(model, safe='')}:{action}"
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        request = urllib.request.Request(url, orjson.dumps(body), headers)
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            moved: dict[str, str] = orjson.loads(answer.read())
            return moved
    except urllib.error.HTTPError as error:
        text = error.read()
        try:
            message = orjson.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            message = text.decode(errors="replace")
        raise ServingError(Code.UNKNOWN, f"{error.code}: {message}") from None
