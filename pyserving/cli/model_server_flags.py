"""The flags of ``tensorflow_model_server``: names, types and defaults are TensorFlow Serving's."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

from pyserving.cli.flags import Flag, FlagType, parse_flags
from pyserving.cli.flags import usage as flags_usage

T = TypeVar("T", bool, int, float, str)

_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

_NETWORK = "Ports and protocols"
_MODELS = "Models"
_LOADING = "Finding and loading versions"
_TENSORFLOW = "TensorFlow"
_BATCHING = "Batching"
_ADMISSION = "Admission"
_WARMUP = "Warmup"
_LITE = "TensorFlow Lite"
_WATCHING = "Monitoring"
_HARDWARE = "Hardware"
_OTHER = "Other"

_NOT_THERE = " TensorFlow Serving does not have this flag."
_XLA = "what a model asks to be compiled is compiled in any case"


def _flag(default: T, group: str, help: str, *, without_effect: str = "", bits: int = 32) -> T:  # noqa: A002
    """A field that is a flag. ``without_effect`` says why it does nothing, empty if it does something."""
    metadata = {"group": group, "help": help, "without_effect": without_effect, "bits": bits}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class ModelServerFlags:
    """The value of each flag, given or by default."""

    port: int = _flag(8500, _NETWORK, "TCP port for gRPC; 0: none.")
    grpc_socket_path: str = _flag("", _NETWORK, "Path of a UNIX socket that serves gRPC too; empty: none.")
    rest_api_port: int = _flag(0, _NETWORK, "TCP port for REST; 0: none. It must differ from --port.")
    rest_api_timeout_in_ms: int = _flag(30000, _NETWORK, "How long a REST call may take, in milliseconds.")
    rest_api_num_threads: int = _flag(
        4 * _CPUS,
        _NETWORK,
        "Threads that answer REST calls.",
        without_effect="one event loop reads and writes, so there are no such threads",
    )
    rest_api_enable_cors_support: bool = _flag(False, _NETWORK, "Send CORS headers with REST answers.")
    grpc_channel_arguments: str = _flag(
        "",
        _NETWORK,
        "Arguments of the gRPC server: key=value, separated by commas, such as grpc.max_connection_age_ms=2000.",
    )
    grpc_max_threads: int = _flag(
        4 * _CPUS,
        _NETWORK,
        "Threads that answer gRPC calls.",
        without_effect="one event loop reads and writes, so there are no such threads",
    )
    enable_grpc_healthcheck_service: bool = _flag(False, _NETWORK, "Serve grpc.health.v1.Health.")
    enable_health: bool = _flag(
        False,
        _NETWORK,
        "Serve /healthz, /readyz and a list of all models at /v1/models on --rest_api_port." + _NOT_THERE,
    )
    drain_delay_seconds: float = _flag(
        0.0,
        _NETWORK,
        "At a stop, how long the server is not ready and still takes requests, for load balancers to hear of it."
        + _NOT_THERE,
    )
    enable_console: bool = _flag(
        False,
        _NETWORK,
        "Serve a web console at / of --rest_api_port, and /openapi.json. TensorFlow Serving does not have this flag.",
    )
    enable_open_inference_protocol: bool = _flag(
        False,
        _NETWORK,
        "Serve the Open Inference Protocol (KServe, Triton) too: /v2 at --rest_api_port, and gRPC's "
        "inference.GRPCInferenceService. TensorFlow Serving does not have this flag.",
    )
    enable_session_service: bool = _flag(
        False,
        _NETWORK,
        "Serve SessionService too. Its clients may run any part of a model's graph, and TensorFlow keeps something for "
        "each set of names they use: for clients that are trusted. TensorFlow Serving does not have this flag.",
    )
    enable_serialization_as_tensor_content: bool = _flag(
        False, _NETWORK, "Write the tensors of Predict answers as tensor_content, not as *_val fields."
    )
    ssl_config_file: str = _flag("", _NETWORK, "File with an SSLConfig (text format): keys and certificates for gRPC.")
    rest_api_ssl_config_file: str = _flag(
        "", _NETWORK, "The same for REST, which stays plain without it. TensorFlow Serving does not have this flag."
    )
    api_keys_file: str = _flag(
        "",
        _NETWORK,
        "File of the API keys that clients must show; see pyserving keys. TensorFlow Serving does not have this flag.",
    )
    restrict_admin: bool = _flag(
        False,
        _NETWORK,
        "Without --api_keys_file: refuse HandleReloadConfigRequest and other administration to all who are not on this "
        "machine. TensorFlow Serving does not have this flag.",
    )
    use_alts_credentials: bool = _flag(
        False, _NETWORK, "Secure gRPC by ALTS.", without_effect="ALTS exists on Google's own network alone"
    )

    model_name: str = _flag("default", _MODELS, "Name of the one model; not used with --model_config_file.")
    model_base_path: str = _flag(
        "", _MODELS, "Folder that holds the version folders of the one model; not used with --model_config_file."
    )
    model_config_file: str = _flag(
        "", _MODELS, "File with a ModelServerConfig (text format): any number of models, version policies and labels."
    )
    model_config_file_poll_wait_seconds: int = _flag(
        0, _MODELS, "Seconds between two readings of --model_config_file; 0: it is read once."
    )
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, _MODELS, "Let a new label point to a version that is not available yet."
    )
    platform_config_file: str = _flag(
        "",
        _MODELS,
        "File with a PlatformConfigMap (text format), in place of the flags about TensorFlow, TensorFlow Lite, "
        "batching and warmup.",
    )
    python_models: str = _flag(
        "off",
        _MODELS,
        "Whether code in version folders (model.py) is run: off, on, or process (always in a process of its own). "
        "TensorFlow Serving does not have this flag.",
    )

    isolate: bool = _flag(
        False,
        _MODELS,
        "Run each version in a process of its own. TensorFlow Serving does not have this flag.",
    )

    lazy: bool = _flag(
        False,
        _MODELS,
        "Load each model at its first request, unless its config says that it is pinned. TensorFlow Serving does not "
        "have this flag.",
    )
    model_memory_budget: int = _flag(
        0,
        _MODELS,
        "Bytes that all loaded models may need; those that were used least recently make room for others. 0: all stay "
        "loaded. TensorFlow Serving does not have this flag.",
        bits=64,
    )

    accelerate: str = _flag(
        "auto",
        _MODELS,
        "Engines that may take SavedModels over from TensorFlow, once they were seen to give the same answers faster: "
        "auto (those that are installed), off, openvino or tflite. TensorFlow Serving does not have this flag.",
    )
    acceleration_cache: str = _flag(
        "",
        _MODELS,
        "Folder for what they compile; empty: pyserving/acceleration in the user's cache. TensorFlow Serving does not "
        "have this flag.",
    )
    acceleration_requests: int = _flag(
        0,
        _MODELS,
        "Clients' requests that are kept in memory for the first comparison, up to so many a signature. TensorFlow "
        "Serving does not have this flag.",
    )

    file_system_poll_wait_seconds: int = _flag(
        1, _LOADING, "Seconds between two looks for new versions; 0: one look at the start."
    )
    object_store_poll_wait_seconds: int = _flag(
        60,
        _LOADING,
        "The same for base paths in object stores, where each look costs a request. TensorFlow Serving does not have "
        "this flag.",
    )
    model_cache_path: str = _flag(
        "",
        _LOADING,
        "Folder for versions from object stores; empty: pyserving/models in the user's cache. TensorFlow Serving does "
        "not have this flag.",
    )
    num_load_threads: int = _flag(0, _LOADING, "Versions that may load at the same time; 0: one.")
    num_unload_threads: int = _flag(0, _LOADING, "Versions that may unload at the same time; 0: one.")
    max_num_load_retries: int = _flag(5, _LOADING, "How often a failed load is tried again.")
    load_retry_interval_micros: int = _flag(
        60_000_000, _LOADING, "Microseconds to wait before a failed load is tried again.", bits=64
    )
    flush_filesystem_caches: bool = _flag(
        True,
        _LOADING,
        "Drop file contents cached by TensorFlow after loading.",
        without_effect="local files are not cached in this process",
    )

    saved_model_tags: str = _flag(
        "", _TENSORFLOW, "Tags, separated by commas, of the graph to load from a SavedModel; empty: serve."
    )
    tensorflow_session_parallelism: int = _flag(
        0, _TENSORFLOW, "Threads within an operation and across operations, both; 0: as many as fit.", bits=64
    )
    tensorflow_intra_op_parallelism: int = _flag(
        0, _TENSORFLOW, "Threads that share one operation; 0: as many as fit.", bits=64
    )
    tensorflow_inter_op_parallelism: int = _flag(
        0, _TENSORFLOW, "Operations that run at the same time; 0: as many as fit.", bits=64
    )
    tensorflow_session_config_file: str = _flag(
        "", _TENSORFLOW, "File with a ConfigProto (text format) for sessions; other flags override parts of it."
    )
    enable_signature_method_name_check: bool = _flag(
        False,
        _TENSORFLOW,
        "Refuse a signature whose method name says that it is for another method than the one called. Those of "
        "TensorFlow 2 all say Predict.",
    )
    custom_op_libraries: str = _flag(
        "",
        _TENSORFLOW,
        "Libraries (.so), separated by commas, with operations that TensorFlow itself does not have. "
        "TensorFlow Serving does not have this flag.",
    )
    remove_unused_fields_from_bundle_metagraph: bool = _flag(
        True,
        _TENSORFLOW,
        "Forget a model's graph definition once it is loaded.",
        without_effect="only the signatures are ever kept",
    )
    thread_pool_factory_config_file: str = _flag(
        "",
        _TENSORFLOW,
        "File with a ThreadPoolConfig (text format).",
        without_effect="it names thread pools that are linked into another program",
    )
    mixed_precision: str = _flag(
        "",
        _TENSORFLOW,
        "bfloat16: compute so what loses little by it, on CPUs that have instructions for it.",
    )
    xla_cpu_compilation_enabled: bool = _flag(
        False, _TENSORFLOW, "Compile with XLA on the CPU where a model asks for it.", without_effect=_XLA
    )
    xla_gpu_compilation_enabled: bool = _flag(
        False,
        _TENSORFLOW,
        "Compile with XLA on the CPU and on GPUs where a model asks for it.",
        without_effect=_XLA,
    )

    enable_batching: bool = _flag(False, _BATCHING, "Join requests into batches, by BatchingParameters.")
    batching_parameters_file: str = _flag(
        "", _BATCHING, "File with BatchingParameters (text format); needs --enable_batching."
    )
    enable_per_model_batching_parameters: bool = _flag(
        False, _BATCHING, "With --enable_batching: read batching_params.pbtxt in each version folder."
    )
    automatic_batching: bool = _flag(
        True,
        _BATCHING,
        "Without --enable_batching: join requests that arrive while others are computed, for models whose rows are "
        "independent. No request waits for others. TensorFlow Serving does not have this flag.",
    )
    automatic_batching_exclude: str = _flag(
        "",
        _BATCHING,
        "Names of models, with commas between, that --automatic_batching leaves alone. TensorFlow Serving does not "
        "have this flag.",
    )

    max_queued_requests: int = _flag(
        0, _ADMISSION, "Requests of all models that may wait for an engine call; 0: any number." + _NOT_THERE
    )
    max_queued_requests_per_model: int = _flag(
        0, _ADMISSION, "The same for each model whose config says nothing; 0: any number." + _NOT_THERE
    )
    max_requests_in_flight: int = _flag(
        0, _ADMISSION, "Requests of all models that may wait or be computed at a time; 0: any number." + _NOT_THERE
    )
    max_requests_in_flight_per_model: int = _flag(
        0, _ADMISSION, "The same for each model whose config says nothing; 0: any number." + _NOT_THERE
    )
    refuse_late_requests: bool = _flag(
        False, _ADMISSION, "Refuse at once what cannot be answered within its deadline." + _NOT_THERE
    )

    enable_model_warmup: bool = _flag(
        True, _WARMUP, "Replay a version's recorded requests before it becomes available."
    )
    num_request_iterations_for_warmup: int = _flag(0, _WARMUP, "How often each recorded request is replayed; 0: once.")

    prefer_tflite_model: bool = _flag(
        False, _LITE, "Serve model.tflite where a version folder has one beside a SavedModel."
    )
    num_tflite_pools: int = _flag(_CPUS, _LITE, "Interpreter pools for each model.")
    num_tflite_interpreters_per_pool: int = _flag(1, _LITE, "Interpreters in each pool.")

    monitoring_config_file: str = _flag(
        "", _WATCHING, "File with a MonitoringConfig (text format): serve metrics for Prometheus on the REST port."
    )
    enable_profiler: bool = _flag(
        True,
        _WATCHING,
        "Serve TensorFlow's profiler.",
        without_effect="TensorFlow's C interface, by which models run here, has no profiler",
    )

    per_process_gpu_memory_fraction: float = _flag(
        0.0, _HARDWARE, "Share of each GPU's memory to take, 0 to 1; 0: TensorFlow decides."
    )
    skip_initialize_tpu: bool = _flag(
        False,
        _HARDWARE,
        "Do not initialise TPUs at the start.",
        without_effect="TPUs are not initialised by this server",
    )

    workers: int = _flag(
        1,
        _OTHER,
        "Processes that answer; for models that change no variables. TensorFlow Serving does not have this flag.",
    )
    log_format: str = _flag(
        "text", _OTHER, "Lines of the log: text, or json. TensorFlow Serving does not have this flag."
    )
    access_log: str = _flag(
        "", _OTHER, "File for a line for each request; -: standard output. TensorFlow Serving does not have this flag."
    )
    access_log_format: str = _flag(
        "json", _OTHER, "Its lines: json, or text. TensorFlow Serving does not have this flag."
    )
    slow_request_ms: int = _flag(
        0,
        _OTHER,
        "Log requests that take longer, with the times of their stages; 0: none. TensorFlow Serving does not have this "
        "flag.",
    )
    tracing: bool = _flag(
        False,
        _OTHER,
        "OpenTelemetry traces, as the environment variables OTEL_* say. TensorFlow Serving does not have this flag.",
    )
    version: bool = _flag(False, _OTHER, "Show the version and exit.")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the words of a command line, and the environment, ask for."""

    flags: ModelServerFlags
    given: frozenset[str]
    """Names of the flags that were given and could be read."""
    unknown: tuple[str, ...]
    """Words that are no flags: to be told of, no reason not to start."""
    errors: tuple[str, ...]
    """Texts about values that cannot be read: a reason not to start."""
    help: bool
    warnings: tuple[str, ...]
    """One line for each given flag that will not do what it asks for."""


def _flag_type(default: object, bits: int) -> FlagType:
    match default:
        case bool():
            return FlagType.BOOL
        case int():
            return FlagType.INT64 if bits == 64 else FlagType.INT32
        case float():
            return FlagType.FLOAT
        case _:
            return FlagType.STRING


def _as_flag(declared: "Field[Any]") -> Flag:
    described = declared.metadata["help"]
    if reason := declared.metadata["without_effect"]:
        described += f" [{reason}]"
    default: Any = declared.default
    kind = _flag_type(default, declared.metadata["bits"])
    return Flag(declared.name, kind, default, declared.metadata["group"], described)


_FLAGS = tuple(map(_as_flag, fields(ModelServerFlags)))
_WITHOUT_EFFECT: dict[str, str] = {
    declared.name: declared.metadata["without_effect"] for declared in fields(ModelServerFlags)
}


def read_command_line(arguments: Sequence[str], environ: Mapping[str, str]) -> CommandLine:
    """Reads the words after the program's name.

    ``environ`` may hold what TensorFlow Serving's Docker image reads: with MODEL_NAME or MODEL_BASE_PATH set, and no
    flag that names a model, ``${MODEL_BASE_PATH:-/models}/${MODEL_NAME:-model}`` is served, by REST on 8501 too.
    """
    parsed = parse_flags(_FLAGS, arguments)
    values: dict[str, Any] = dict(parsed.values)
    if not values.keys() & {"model_name", "model_base_path", "model_config_file"}:
        name, base_path = environ.get("MODEL_NAME"), environ.get("MODEL_BASE_PATH")
        if name or base_path:
            values["model_name"] = name or "model"
            values["model_base_path"] = f"{base_path or '/models'}/{values['model_name']}"
            values.setdefault("rest_api_port", 8501)
    return CommandLine(
        flags=ModelServerFlags(**values),
        given=frozenset(parsed.values),
        unknown=tuple(parsed.unknown),
        errors=tuple(parsed.errors),
        help=parsed.help,
        warnings=tuple(_warnings(parsed.values)),
    )


def usage(command: str) -> str:
    """The text of ``--help``."""
    return flags_usage(command, _FLAGS)


def _warnings(given: Mapping[str, object]) -> list[str]:
    warnings = []
    for name, value in given.items():
        reason = _WITHOUT_EFFECT[name]
        # Who switches off what is not there gets what he asks for.
        if reason and value is not False:
            warnings.append(f"--{name} is accepted but has no effect: {reason}")
    return warnings
