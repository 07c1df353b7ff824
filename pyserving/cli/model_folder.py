"""What PATH means in ``pyserving serve PATH``: one model, a folder of several, or a version by itself."""

import os

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.registry import Platforms
from pyserving.protos import messages
from pyserving.sources.base_path import is_object_store
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_folders import list_versions, parse_version


def find_models(path: str, name: str | None = None) -> list[ModelConfig]:
    """The models under ``path``, which holds either versions (folders named by numbers) or models that do, or is what
    a version folder is: that is version 1. One in an object store holds versions.

    ``name`` names a single model; without it the folder's own name does. Raises ServingError: NOT_FOUND where
    there is no such folder, INVALID_ARGUMENT where it holds neither versions nor models.
    """
    if is_object_store(path):
        return [ModelConfig(name or path.rstrip("/").rpartition("/")[2], path)]
    base_path = os.path.abspath(path)
    own_name = name or os.path.basename(base_path) or "default"
    try:
        if list_versions(base_path)[0]:
            return [ModelConfig(own_name, base_path)]
        children = sorted(entry.name for entry in os.scandir(base_path) if entry.is_dir())
        models = [child for child in children if list_versions(os.path.join(base_path, child))[0]]
    except FileNotFoundError:
        raise ServingError(Code.NOT_FOUND, f"no folder at {base_path}") from None
    except NotADirectoryError:
        raise ServingError(Code.INVALID_ARGUMENT, f"{base_path} is a file; expected a folder of versions") from None
    if not models and Platforms(PlatformContext()).platform_of(base_path) is not None:
        if name is None and parse_version(own_name) is not None:
            hint = f"serve the folder above it, {os.path.dirname(base_path)}, or say --name"
            raise ServingError(Code.INVALID_ARGUMENT, f"{base_path} is itself a version; {hint}")
        unversioned = messages.ModelOptions.Source.Value("UNVERSIONED")
        return [ModelConfig(own_name, base_path, options=messages.ModelOptions(source=unversioned))]
    if not models:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"found no model in {base_path}: expected version folders named by a number (such as {base_path}/1/), "
            "or folders of models that have such",
        )
    if name and len(models) > 1:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"{base_path} holds {len(models)} models ({', '.join(models)}): one name cannot fit"
        )
    return [ModelConfig(name or model, os.path.join(base_path, model)) for model in models]
