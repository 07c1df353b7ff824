"""``pyserving completion``: the script by which a shell completes what is typed after ``pyserving``."""

import click
from click.shell_completion import get_completion_class

from pyserving.cli.main import main

_VARIABLE = "_PYSERVING_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Prints the completion script for SHELL.

    For bash, for example: pyserving completion bash >> ~/.bash_completion
    """
    found = get_completion_class(shell)
    assert found is not None  # click has all three
    complete = found(main, {}, "pyserving", _VARIABLE)
    click.echo(complete.source_template % complete.source_vars())
