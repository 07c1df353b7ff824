"""The command ``tensorflow_model_server``: flags, texts and exit codes are TensorFlow Serving's."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence

import pyserving
from pyserving.acceleration.accelerator import Acceleration, AccelerationOptions
from pyserving.acceleration.cache import default_root
from pyserving.batching.admission import AdmissionOptions, Limits
from pyserving.batching.parameters import Batching
from pyserving.cli.model_server_flags import ModelServerFlags, read_command_line, usage
from pyserving.cli.platform_config import PLATFORM, PlatformConfig, platform_from_file, platform_from_flags
from pyserving.core.errors import ServingError, invalid_argument
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.platforms.registry import find_platforms
from pyserving.protos.messages import MonitoringConfig
from pyserving.server.access_log import AccessLogFormat
from pyserving.server.logs import LogFormat, log_to_stderr
from pyserving.server.run import run
from pyserving.server.seeing import SeeingOptions
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig, read_model_config_file, single_model
from pyserving.sources.text_proto import read_text_proto
from pyserving.transport.grpc_limits import GrpcLimits, read_channel_arguments

COMMAND = "tensorflow_model_server"
FAILED = 255
"""The real server's exit code for anything that keeps it from starting."""

logger = logging.getLogger("pyserving.cli")


def main() -> None:
    sys.exit(serve(sys.argv[1:], os.environ))


def serve(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs the server that ``arguments`` ask for; returns the exit code."""
    line = read_command_line(arguments, environ)
    for text in line.errors:
        print(text, file=sys.stderr)
    if line.errors or line.help:
        print(usage(COMMAND), file=sys.stderr)
        return FAILED
    if line.flags.version:
        print(f"PyServing {pyserving.__version__}")
        return 0
    for word in line.unknown:
        print(f"unknown argument: {word}", file=sys.stderr)
    if line.unknown:
        print(f"{COMMAND} --help lists the flags", file=sys.stderr)
    try:
        log_to_stderr(form=_log_format(line.flags))
        for text in line.warnings:
            logger.warning("%s", text)
        return run(settings_of(line.flags))
    except ServingError as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        return FAILED


def settings_of(flags: ModelServerFlags) -> Settings:
    """What the flags mean. Raises INVALID_ARGUMENT where they contradict each other."""
    models = _models(flags)
    platform = _platform(flags, models)
    return Settings(
        models=models,
        config_file=flags.model_config_file,
        config_poll_wait=flags.model_config_file_poll_wait_seconds,
        grpc_port=flags.port or None,
        rest_port=flags.rest_api_port or None,
        grpc_socket_path=flags.grpc_socket_path,
        grpc_limits=_grpc_limits(flags),
        grpc_ssl_config_file=flags.ssl_config_file,
        rest_ssl_config_file=flags.rest_api_ssl_config_file,
        api_keys_file=flags.api_keys_file,
        admin_from_anywhere=not flags.restrict_admin,
        workers=flags.workers,
        seeing=_seeing(flags),
        rest_timeout=flags.rest_api_timeout_in_ms / 1e3,
        cors=flags.rest_api_enable_cors_support,
        as_tensor_content=flags.enable_serialization_as_tensor_content,
        batching=platform.batching or (Batching.AUTOMATIC if flags.automatic_batching else Batching.OFF),
        never_automatic=tuple(name for name in flags.automatic_batching_exclude.split(",") if name),
        per_model_batching=platform.per_model_batching,
        admission=_admission(flags),
        poll_wait=flags.file_system_poll_wait_seconds,
        bucket_poll_wait=flags.object_store_poll_wait_seconds,
        model_cache=flags.model_cache_path,
        num_load_threads=flags.num_load_threads,
        num_unload_threads=flags.num_unload_threads,
        max_num_load_retries=flags.max_num_load_retries,
        load_retry_interval=flags.load_retry_interval_micros / 1e6,
        allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        session_options=platform.session_options,
        check_method_names=flags.enable_signature_method_name_check,
        session_service=flags.enable_session_service,
        op_libraries=tuple(path for path in flags.custom_op_libraries.split(",") if path),
        prefer_tflite=platform.prefer_tflite,
        python_options=_python_options(flags),
        isolate=flags.isolate,
        lazy=flags.lazy,
        model_memory_budget=_model_memory_budget(flags),
        acceleration=_acceleration(flags),
        tflite_options=platform.tflite_options,
        warmup_iterations=platform.warmup_iterations,
        metrics_path=_metrics_path(flags),
        health=flags.enable_health,
        drain_delay=_drain_delay(flags),
        console=flags.enable_console,
        open_inference_protocol=flags.enable_open_inference_protocol,
        grpc_health=flags.enable_grpc_healthcheck_service,
        reflection=False,
        wait_for_models=True,
        resolve_status_labels=False,
    )


def _drain_delay(flags: ModelServerFlags) -> float:
    if flags.drain_delay_seconds < 0:
        raise invalid_argument(f"--drain_delay_seconds must be at least 0, got {flags.drain_delay_seconds:g}")
    return flags.drain_delay_seconds


def _model_memory_budget(flags: ModelServerFlags) -> int | None:
    if flags.model_memory_budget < 0:
        raise invalid_argument(f"--model_memory_budget must be at least 0, got {flags.model_memory_budget}")
    return flags.model_memory_budget or None


def _admission(flags: ModelServerFlags) -> AdmissionOptions:
    def limit(name: str) -> int | None:
        given: int = getattr(flags, name)
        if given < 0:
            raise invalid_argument(f"--{name} must be at least 0, got {given}")
        return given or None

    return AdmissionOptions(
        Limits(limit("max_requests_in_flight"), limit("max_queued_requests")),
        Limits(limit("max_requests_in_flight_per_model"), limit("max_queued_requests_per_model")),
        watch_deadlines=flags.refuse_late_requests,
    )


def _seeing(flags: ModelServerFlags) -> SeeingOptions:
    if flags.slow_request_ms < 0:
        raise invalid_argument(f"--slow_request_ms must be at least 0, got {flags.slow_request_ms}")
    try:
        form = AccessLogFormat(flags.access_log_format)
    except ValueError:
        raise invalid_argument(f"--access_log_format must be json or text, got {flags.access_log_format}") from None
    return SeeingOptions(flags.access_log, form, flags.slow_request_ms / 1e3 or None, flags.tracing)


def _acceleration(flags: ModelServerFlags) -> AccelerationOptions:
    try:
        choice = Acceleration(flags.accelerate)
    except ValueError:
        names = ", ".join(choice.value for choice in Acceleration)
        raise invalid_argument(f"--accelerate must be one of {names}, not {flags.accelerate}") from None
    if flags.acceleration_requests < 0:
        raise invalid_argument(f"--acceleration_requests must be at least 0, got {flags.acceleration_requests}")
    return AccelerationOptions(choice, flags.acceleration_cache or default_root(), flags.acceleration_requests)


def _python_options(flags: ModelServerFlags) -> PythonOptions:
    try:
        return PythonOptions(PythonModels(flags.python_models))
    except ValueError:
        raise invalid_argument(f"--python_models must be off, on or process, not {flags.python_models}") from None


def _models(flags: ModelServerFlags) -> Sequence[ModelConfig]:
    if flags.rest_api_port and flags.rest_api_port == flags.port:
        raise invalid_argument("server_options.http_port cannot be same as grpc_port")
    if flags.model_config_file:
        models = read_model_config_file(flags.model_config_file, platforms=find_platforms())
        if models is None:
            raise invalid_argument(f"{flags.model_config_file} sets no model_config_list")
        return models
    if not flags.model_base_path:
        raise invalid_argument("Both server_options.model_base_path and server_options.model_config_file are empty!")
    return single_model(flags.model_name, flags.model_base_path)


def _log_format(flags: ModelServerFlags) -> LogFormat:
    try:
        return LogFormat(flags.log_format)
    except ValueError:
        raise invalid_argument(f"--log_format must be text or json, got {flags.log_format}") from None


def _platform(flags: ModelServerFlags, models: Sequence[ModelConfig]) -> PlatformConfig:
    if not flags.platform_config_file:
        return platform_from_flags(flags)
    platform = platform_from_file(flags.platform_config_file)
    if platform is None and models:
        raise invalid_argument(f"Model {models[0].name} requests unsupported platform {PLATFORM}")
    return platform or platform_from_flags(flags)


def _metrics_path(flags: ModelServerFlags) -> str:
    if not flags.monitoring_config_file:
        return ""
    prometheus = read_text_proto(flags.monitoring_config_file, MonitoringConfig).prometheus_config
    if not prometheus.enable:
        return ""
    return "/" + (prometheus.path.lstrip("/") or "monitoring/prometheus/metrics")


def _grpc_limits(flags: ModelServerFlags) -> GrpcLimits:
    limits, warnings = read_channel_arguments(flags.grpc_channel_arguments)
    for text in warnings:
        logger.warning("%s", text)
    return limits


if __name__ == "__main__":
    main()
