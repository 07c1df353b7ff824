"""Asks a server to move the default version of a model."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import click
import orjson

from pyserving.cli.asking import security_options
from pyserving.cli.ending import ending, usage_errors
from pyserving.cli.number import Number
from pyserving.cli.server_pages import ServerPages, rest_address
from pyserving.core.errors import Code, ServingError

F = TypeVar("F", bound=Callable[..., Any])


def rollout_options(command: F) -> F:
    """Adds the options that ``move`` takes."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON in place of text."),
        security_options,
        # A version that is to be promoted may have to be loaded first.
        click.option("--timeout", type=Number(min=0, min_open=True), default=600.0, show_default=True,
                     help="Seconds that it may take, with the loading of the version."),
        click.option("--server", default="http://127.0.0.1:8501", show_default=True, help="Its REST port.",
                     metavar="URL"),
    ):  # fmt: skip
        command = option(command)
    return command


def move(model: str, action: str, body: Mapping[str, str], *, server: str, as_json: bool, **options: Any) -> None:
    """Asks, and says what came of it; ends the process with an exit code where that failed."""
    with usage_errors():
        pages = ServerPages(rest_address(server, tls=options["tls"], what="--server"), options)
    with ending(f"cannot {action} {model}"):
        answer = pages.post(f"/v1/models/{quote(model, safe='')}:{action}", orjson.dumps(body))
        try:
            moved = orjson.loads(answer)
            version, previous = int(moved["version"]), int(moved["previous_version"])
        except (ValueError, KeyError, TypeError):
            raise ServingError(Code.UNKNOWN, f"{server} is no PyServing: it answered {answer[:200]!r}") from None
    if as_json:
        click.echo(json.dumps({"model": model, "version": version, "previous_version": previous}))
        return
    before = f"version {previous}" if previous else "none"
    click.echo(f"{model}: version {version} is the default one, before it was {before}")
