"""What the commands that ask a server have in common: how it is reached, and how its errors end them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from pyserving.cli.ending import Exit, fail, usage_errors
from pyserving.cli.number import Number
from pyserving.client import Client, ModelMetadata, NotOffered, SignatureSpec, Unreachable, VersionStatus
from pyserving.core.errors import ServingError, invalid_argument

F = TypeVar("F", bound=Callable[..., Any])

_SECURITY = (
    click.option("--token", envvar="PYSERVING_TOKEN", help="API key, sent as a bearer token; or in PYSERVING_TOKEN."),
    click.option("--tls", is_flag=True, help="Speak TLS to an address without a scheme."),
    click.option("--ca", type=click.Path(exists=True, dir_okay=False), help="PEM file of the authorities to trust."),
    click.option("--cert", type=click.Path(exists=True, dir_okay=False), help="PEM file of the client's certificate."),
    click.option("--key", type=click.Path(exists=True, dir_okay=False), help="PEM file of the certificate's key."),
)  # fmt: skip


def security_options(command: F) -> F:
    """Adds ``--token`` and those of TLS."""
    for option in reversed(_SECURITY):
        command = option(command)
    return command


def connection_options(command: F) -> F:
    """Adds the options that ``connect`` takes."""
    timeout = click.option(
        "--timeout",
        type=Number(min=0, min_open=True),
        default=30.0,
        show_default=True,
        help="Seconds that a request may take.",
    )
    return timeout(security_options(command))


inputs_option = click.option(
    "-i",
    "--inputs",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="JSON, a file (.npy, .npz[KEY], .json, a picture, @FILE), or such as 'x=np.ones((1,3))'; once per input.",
)


def connect(url: str, options: Mapping[str, Any]) -> Client:
    """A client that tries once: who calls a command sees at once that there is no server."""
    with usage_errors():
        return Client(url, retries=0, **options)


@contextmanager
def asking() -> Iterator[None]:
    """Ends the command with a plain message and its exit code where a server refuses or cannot be reached."""
    try:
        yield
    except Unreachable as error:
        fail(error.message, Exit.UNREACHABLE)
    except ServingError as error:
        fail(str(error), Exit.FAILED)


def list_models(client: Client) -> Mapping[str, Sequence[VersionStatus]]:
    """Raises ServingError, with what to do where the server cannot tell."""
    try:
        return client.models()
    except NotOffered:
        raise invalid_argument("say which model with --model: only PyServing's REST port lists them") from None


def choose_model(client: Client, model: str | None) -> str:
    """The name given, or that of the only model. Raises ServingError."""
    if model is not None:
        return model
    names = list(list_models(client))
    if len(names) != 1:
        raise invalid_argument(f"say which model with --model: the server has {', '.join(names) or 'none'}")
    return names[0]


def choose_signature(metadata: ModelMetadata, name: str) -> SignatureSpec:
    """Raises INVALID_ARGUMENT."""
    if name not in metadata.signatures:
        known = ", ".join(metadata.signatures) or "none"
        raise invalid_argument(f"model {metadata.name} has no signature {name}; its signatures: {known}")
    return metadata.signatures[name]
