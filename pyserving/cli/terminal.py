"""Where commands print to. Colours and live displays are for terminals; what a pipe gets is plain and not cut off."""

import sys
from typing import IO

from rich.console import Console

_PIPE_WIDTH = 1000


def results_to() -> Console:
    """Standard output."""
    return _console(sys.stdout)


def errors_to() -> Console:
    """Standard error: what went wrong, and progress."""
    return _console(sys.stderr)


def _console(file: IO[str]) -> Console:
    return Console(file=file, width=None if file.isatty() else _PIPE_WIDTH, highlight=False)
