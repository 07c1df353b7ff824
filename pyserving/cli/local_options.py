"""Options of all commands that look at a model, or load one, on this machine."""

from collections.abc import Callable
from typing import Any

import click

from pyserving.platforms.python.options import PythonModels

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def python_models_option(default: PythonModels) -> Decorator:
    """``--python-models``, as ``pyserving serve`` has it."""
    return click.option(
        "--python-models",
        type=click.Choice([choice.value for choice in PythonModels]),
        default=default.value,
        show_default=True,
        help="Whether code in a model.py is run; process: in a process of its own.",
    )


op_library_option: Decorator = click.option(
    "--op-library",
    "op_libraries",
    multiple=True,
    type=click.Path(dir_okay=False),
    help="A library (.so) with operations that TensorFlow itself does not have; may be given several times.",
)
tags_option: Decorator = click.option(
    "--tags", default="serve", show_default=True, help="Tags of the graph to load, with commas between."
)
