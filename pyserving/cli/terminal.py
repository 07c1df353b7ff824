"""Where commands print to. Colours and live displays are for terminals; what a pipe gets is plain and not cut off."""

import sys
from typing import IO

from rich.console import Console

_PIPE_WIDTH = 1000


def results_to(least_width: int = 0) -> Console:
    """Standard output. ``least_width``: of columns, where a terminal has fewer."""
    console = _console(sys.stdout)
    if console.width < least_width:
        console.width = least_width  # once set it does not follow the terminal's
    return console


def errors_to() -> Console:
    """Standard error: what went wrong, and progress."""
    return _console(sys.stderr)


def _console(file: IO[str]) -> Console:
    # Names are told as they are: no emoji for :b: in a path.
    return Console(file=file, width=None if file.isatty() else _PIPE_WIDTH, highlight=False, emoji=False)
