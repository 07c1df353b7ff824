"""What a shell completes to, where that is cheap to find: names in a SavedModel, which is read but not loaded."""

import os

import click


def complete_signatures(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """The signatures of the SavedModel that the argument PATH names."""
    from pyserving.cli.version_folder import find_version
    from pyserving.core.errors import ServingError
    from pyserving.platforms.tensorflow.saved_model import SAVED_MODEL_FILE
    from pyserving.protos.messages import SavedModel

    try:
        with find_version(str(context.params.get("path") or ".")) as folder:
            with open(os.path.join(folder.path, SAVED_MODEL_FILE), "rb") as file:
                graphs = SavedModel.FromString(file.read()).meta_graphs
    except (OSError, ServingError, ValueError):
        return []
    names = {name for graph in graphs for name in graph.signature_def}
    return sorted(name for name in names if name.startswith(incomplete))
