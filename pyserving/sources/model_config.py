"""The models to serve: ``ModelServerConfig``, checked as TensorFlow Serving checks it."""

import logging
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.protos import messages
from pyserving.sources.base_path import is_absolute
from pyserving.sources.text_proto import read_text_proto
from pyserving.sources.version_policy import All, Latest, Specific, VersionPolicy

logger = logging.getLogger("pyserving.sources")

TENSORFLOW_PLATFORM = "tensorflow"
LOG_COLLECTORS = ("", "tfrecord")
"""Types of ``log_collector_config``: both write TFRecord files. The real server comes without any."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve."""

    name: str
    base_path: str
    platform: str = TENSORFLOW_PLATFORM
    version_policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)
    """Version by label."""
    logging_config: messages.LoggingConfig | None = None
    """With a sampling rate above 0 it says where its requests are logged: they are not without it."""
    options: messages.ModelOptions = field(default_factory=messages.ModelOptions)
    """What only PyServing knows; see ``pyserving.proto``."""

    @property
    def is_pushed(self) -> bool:
        """Its versions are named by an administrator; nobody looks for them."""
        return bool(self.options.source == messages.ModelOptions.Source.Value("PUSH"))

    @property
    def is_unversioned(self) -> bool:
        """``base_path`` is itself the folder of the only version, 1."""
        return bool(self.options.source == messages.ModelOptions.Source.Value("UNVERSIONED"))


def single_model(name: str, base_path: str) -> list[ModelConfig]:
    """The config of a server that serves one TensorFlow model.

    Raises ServingError if the base path is relative.
    """
    _check_base_path(name, base_path)
    return [ModelConfig(name, base_path)]


def read_model_config_file(
    path: str,
    *,
    running: Sequence[ModelConfig] = (),
    platforms: Collection[str] = (TENSORFLOW_PLATFORM,),
) -> list[ModelConfig] | None:
    """The models listed in a file (``ModelServerConfig``, text format); see ``models_from_config``."""
    config = read_text_proto(path, messages.ModelServerConfig)
    return models_from_config(config, running=running, platforms=platforms)


def models_from_config(
    config: messages.ModelServerConfig,
    *,
    running: Sequence[ModelConfig] = (),
    platforms: Collection[str] = (TENSORFLOW_PLATFORM,),
) -> list[ModelConfig] | None:
    """The models that a config lists; None if it sets neither kind of config, which means: change nothing.

    ``running`` is the config it is to replace, ``platforms`` those that can be served. Raises ServingError
    (INVALID_ARGUMENT), whole config or nothing: a name listed twice, a relative base path, a platform that is missing,
    given twice, unsupported, or not that of the running model, a logging_config that cannot be followed (NOT_FOUND for
    an unknown collector). Whether labels point to available versions is not checked here.
    """
    kind = config.WhichOneof("config")
    if kind is None:
        return None
    if kind != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        )
    entries = config.model_config_list.config
    names: set[str] = set()
    for entry in entries:
        if entry.name in names:
            raise invalid_argument(f"Illegal to list model {entry.name} multiple times in config list")
        names.add(entry.name)
    for entry in entries:
        _check_base_path(entry.name, entry.base_path)
        _check_logging(entry)
        _check_process_limits(entry)
    running_platforms = {model.name: model.platform for model in running}
    for entry in entries:
        if entry.name in running_platforms:
            old, new = running_platforms[entry.name], _platform(entry)
            if new != old:
                raise invalid_argument(
                    f"Illegal to change a model's platform. For model {entry.name} platform was {old} "
                    f"and new platform requested is {new}"
                )
    models = [_model(entry) for entry in entries]
    for entry in entries:
        if entry.model_type:
            logger.warning("Model %s: model_type is deprecated, prefer model_platform", entry.name)
    for model in models:
        if model.platform not in platforms:
            raise invalid_argument(f"Model {model.name} requests unsupported platform {model.platform}")
    return models


def config_of(models: Sequence[ModelConfig]) -> messages.ModelServerConfig:
    """The config that lists these models: ``models_from_config`` makes the same of it again."""
    config = messages.ModelServerConfig()
    config.model_config_list.SetInParent()
    for model in models:
        entry = config.model_config_list.config.add(
            name=model.name, base_path=model.base_path, model_platform=model.platform, version_labels=model.labels
        )
        match model.version_policy:
            case All():
                entry.model_version_policy.all.SetInParent()
            case Specific(versions):
                entry.model_version_policy.specific.versions.extend(sorted(versions))
            case Latest(count) if count != Latest().num_versions:
                entry.model_version_policy.latest.num_versions = count
        if model.logging_config is not None:
            entry.logging_config.CopyFrom(model.logging_config)
        if model.options.ByteSize():
            entry.pyserving.CopyFrom(model.options)
    return config


def _check_base_path(name: str, base_path: str) -> None:
    if not is_absolute(base_path):
        raise invalid_argument(f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}")
    if "\0" in base_path:
        raise invalid_argument(f"Expected model {name} to have a base path without zero bytes; got {base_path!r}")


def _check_logging(entry: messages.ModelConfig) -> None:
    config = entry.logging_config
    rate = config.sampling_config.sampling_rate
    if not 0 <= rate <= 1:
        raise invalid_argument(f"Expected model {entry.name} to have a sampling_rate from 0 to 1; got {rate:g}")
    collector = config.log_collector_config
    if collector.type not in LOG_COLLECTORS:
        raise ServingError(
            Code.NOT_FOUND,
            f"Cannot find LogCollector::Factory for type: {collector.type}; model {entry.name} may have tfrecord",
        )
    if rate and not os.path.isabs(collector.filename_prefix):
        raise invalid_argument(
            f"Expected model {entry.name} to have an absolute path in log_collector_config; got "
            f"filename_prefix={collector.filename_prefix}"
        )


def _check_process_limits(entry: messages.ModelConfig) -> None:
    options = entry.pyserving
    for name in ("process_time_limit", "process_load_time_limit"):
        seconds = getattr(options, name)
        if not 0 <= seconds < math.inf:
            raise invalid_argument(
                f"Expected model {entry.name} to have a {name} of 0 seconds or more; got {seconds:g}"
            )


def _platform(entry: messages.ModelConfig) -> str:
    if not entry.model_type:
        if not entry.model_platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {entry.name}"
            )
        return entry.model_platform
    if entry.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            f"ModelServerConfig::model_platform, model name is {entry.name}"
        )
    if entry.model_type != messages.ModelType.Value("TENSORFLOW"):
        raise invalid_argument(f"ModelServerConfig::model_type choice {entry.model_type} not supported.")
    return TENSORFLOW_PLATFORM


def _model(entry: messages.ModelConfig) -> ModelConfig:
    return ModelConfig(
        name=entry.name,
        base_path=entry.base_path,
        platform=_platform(entry),
        version_policy=_version_policy(entry.model_version_policy),
        labels=dict(entry.version_labels),
        logging_config=entry.logging_config if entry.HasField("logging_config") else None,
        options=entry.pyserving,
    )


def _version_policy(policy: messages.FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> VersionPolicy:
    match policy.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(frozenset(policy.specific.versions))
        case _:
            return Latest(max(policy.latest.num_versions, 1))
