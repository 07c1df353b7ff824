"""What ``tensorflow_model_server`` is told of TensorFlow: by its flags, or in place of them by a file."""

import logging
from dataclasses import dataclass

from pyserving.batching.parameters import BatchingParameters, parameters_from_proto
from pyserving.batching.parameters import read_parameters_file as read_batching_file
from pyserving.cli.model_server_flags import ModelServerFlags
from pyserving.core.errors import invalid_argument
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.platforms.tflite.options import TFLiteOptions
from pyserving.protos import messages
from pyserving.sources.text_proto import read_text_proto

PLATFORM = "tensorflow"

_IGNORED = (
    "session_target",
    "session_run_load_threadpool_index",
    "experimental_transient_ram_bytes_during_load",
    "experimental_fixed_input_tensors",
)

logger = logging.getLogger("pyserving.cli")


@dataclass(frozen=True, slots=True)
class PlatformConfig:
    """The fields of Settings that a ``SessionBundleConfig`` decides on."""

    batching: BatchingParameters | None
    per_model_batching: bool
    session_options: SessionOptions
    prefer_tflite: bool
    tflite_options: TFLiteOptions
    warmup_iterations: int


def platform_from_flags(flags: ModelServerFlags) -> PlatformConfig:
    """Raises ServingError where the flags contradict each other, or name a file that cannot be read."""
    return PlatformConfig(
        batching=_batching(flags),
        per_model_batching=flags.enable_batching and flags.enable_per_model_batching_parameters,
        session_options=_session_options(flags),
        prefer_tflite=flags.prefer_tflite_model,
        tflite_options=_tflite_options(flags.num_tflite_pools, flags.num_tflite_interpreters_per_pool),
        warmup_iterations=max(1, flags.num_request_iterations_for_warmup) if flags.enable_model_warmup else 0,
    )


def platform_from_file(path: str) -> PlatformConfig | None:
    """What a ``PlatformConfigMap`` in text format says of TensorFlow; None if nothing, so that no model can be served.

    The defaults are those of the messages: there is no warmup unless ``enable_model_warmup`` is set. Raises
    ServingError for a file that cannot be read, and for batching parameters that cannot be.
    """
    platforms = read_text_proto(path, messages.PlatformConfigMap).platform_configs
    if PLATFORM not in platforms:
        return None
    adapter = messages.SavedModelBundleSourceAdapterConfig()
    packed = platforms[PLATFORM].source_adapter_config
    if not packed.Unpack(adapter):
        expected = adapter.DESCRIPTOR.full_name
        raise invalid_argument(f"{path}: expected a {expected} for {PLATFORM}, got {packed.type_url or 'nothing'}")
    config = adapter.legacy_config
    for field, _ in config.ListFields():
        if field.name in _IGNORED:
            logger.warning("%s: %s is accepted but has no effect", path, field.name)
    batching = None
    if config.HasField("batching_parameters"):
        batching = parameters_from_proto(config.batching_parameters)
    return PlatformConfig(
        batching=batching,
        per_model_batching=config.HasField("batching_parameters") and config.enable_per_model_batching_params,
        session_options=SessionOptions(
            tags=tuple(config.saved_model_tags) or ("serve",), config=config.session_config.SerializeToString()
        ),
        prefer_tflite=config.prefer_tflite_model,
        tflite_options=_tflite_options(config.num_tflite_pools, config.num_tflite_interpreters_per_pool),
        warmup_iterations=(
            max(1, config.model_warmup_options.num_request_iterations.value) if config.enable_model_warmup else 0
        ),
    )


def _tflite_options(num_pools: int, num_interpreters_per_pool: int) -> TFLiteOptions:
    return TFLiteOptions(
        num_pools=max(1, num_pools), num_interpreters_per_pool=num_interpreters_per_pool, tensor_names=True
    )


def _batching(flags: ModelServerFlags) -> BatchingParameters | None:
    if flags.enable_batching:
        if flags.batching_parameters_file:
            return read_batching_file(flags.batching_parameters_file)
        return BatchingParameters()
    if flags.batching_parameters_file:
        raise invalid_argument(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    return None


def _session_options(flags: ModelServerFlags) -> SessionOptions:
    both = flags.tensorflow_session_parallelism
    if both and (flags.tensorflow_intra_op_parallelism or flags.tensorflow_inter_op_parallelism):
        raise invalid_argument(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )
    if flags.mixed_precision not in ("", "bfloat16"):
        logger.warning("--mixed_precision=%s has no effect: only bfloat16 is known", flags.mixed_precision)
    return SessionOptions(
        tags=tuple(tag for tag in flags.saved_model_tags.split(",") if tag) or ("serve",),
        intra_op_parallelism=both or flags.tensorflow_intra_op_parallelism,
        inter_op_parallelism=both or flags.tensorflow_inter_op_parallelism,
        config_file=flags.tensorflow_session_config_file,
        bfloat16=flags.mixed_precision == "bfloat16",
        gpu_memory_fraction=flags.per_process_gpu_memory_fraction,
    )
