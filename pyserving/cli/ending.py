"""How commands end: exit codes that scripts can use, and errors as one line for people."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from rich.markup import escape

from pyserving.cli.terminal import errors_to
from pyserving.core.errors import ServingError


class Exit(IntEnum):
    """What a command says to the shell. Wrong usage is click's, which has the same number."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3


@contextmanager
def ending(what: str) -> Iterator[None]:
    """A ServingError ends the command: ``what``, such as ``cannot show``, then its text, on standard error.

    The exit code is UNREACHABLE where a server does not answer, else FAILED.
    """
    try:
        yield
    except ServingError as error:
        errors_to().print(f"[bold red]{escape(what)}:[/] {escape(error.message)}", highlight=False, soft_wrap=True)
        from pyserving.client.errors import Unreachable

        sys.exit(Exit.UNREACHABLE if isinstance(error, Unreachable) else Exit.FAILED)
