"""What has to be known of a version folder to load it; it travels to the workers."""

from dataclasses import dataclass

from pyserving.platforms.process.isolation import LOAD_SECONDS, Isolation
from pyserving.protos.messages import ModelOptions
from pyserving.sources.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one version."""

    path: str
    platform: str
    """That the model is configured to be of."""
    isolation: Isolation | None = None
    """None: it is loaded in the server's process."""


def folder_of(path: str, model: ModelConfig, *, isolate: bool) -> Folder:
    """The folder ``path`` of a model; ``isolate``: models have processes of their own unless their config says no."""
    options = model.options
    wanted = options.isolation == ModelOptions.PROCESS or (isolate and options.isolation != ModelOptions.NONE)
    if not wanted:
        return Folder(path, model.platform)
    return Folder(
        path,
        model.platform,
        Isolation(
            options.process_load_time_limit or LOAD_SECONDS,
            options.process_memory_limit or None,
            options.process_time_limit or None,
        ),
    )
