"""What a shell completes to, where that is cheap to find: names in a SavedModel, which is read but not loaded."""

import os

import click
from click.shell_completion import split_arg_string


def complete_signatures(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """The signatures of the SavedModel that the argument PATH names, the first word that is a path."""
    from pyserving.cli.version_folder import find_version
    from pyserving.core.errors import ServingError
    from pyserving.platforms.tensorflow.saved_model import SAVED_MODEL_FILE
    from pyserving.protos.messages import SavedModel

    # Where an option is still without its value, click does not come to the arguments.
    typed = split_arg_string(os.environ.get("COMP_WORDS", ""))[2:]
    try:
        with (
            find_version(next(filter(os.path.exists, typed), ".")) as folder,
            open(os.path.join(folder.path, SAVED_MODEL_FILE), "rb") as file,
        ):
            graphs = SavedModel.FromString(file.read()).meta_graphs
    except (OSError, ServingError, ValueError):
        return []
    names = {name for graph in graphs for name in graph.signature_def}
    return sorted(name for name in names if name.startswith(incomplete))
