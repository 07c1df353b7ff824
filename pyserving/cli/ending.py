"""How commands end: exit codes that scripts can use, and errors as one line for people."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

from rich.markup import escape

from pyserving.cli.terminal import errors_to
from pyserving.core.errors import ServingError


class Exit(IntEnum):
    """What a command says to the shell."""

    OK = 0
    FAILED = 1
    """What was asked for was refused, or went wrong."""
    USAGE = 2
    """The command cannot be right; click's own number for that."""
    UNREACHABLE = 3
    """No server answered."""


def fail(message: str, code: Exit, *, what: str = "error") -> NoReturn:
    """Ends the command: ``what``, in colour on a terminal only, then the message, on standard error."""
    errors_to().print(f"[bold red]{escape(what)}:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(code)


@contextmanager
def ending(what: str) -> Iterator[None]:
    """A ServingError ends the command: ``what``, such as ``cannot show``, then its text, on standard error.

    The exit code is UNREACHABLE where a server does not answer, else FAILED.
    """
    try:
        yield
    except ServingError as error:
        from pyserving.client.errors import Unreachable

        fail(error.message, Exit.UNREACHABLE if isinstance(error, Unreachable) else Exit.FAILED, what=what)


@contextmanager
def usage_errors() -> Iterator[None]:
    """What goes wrong in here lies in what was typed."""
    try:
        yield
    except ServingError as error:
        fail(error.message, Exit.USAGE)
