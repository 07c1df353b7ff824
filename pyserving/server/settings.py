"""All that a server can be told. The commands fill it in; nothing else reads flags or the environment."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pyserving.acceleration.accelerator import AccelerationOptions
from pyserving.batching.admission import AdmissionOptions
from pyserving.batching.parameters import Batching, Policy
from pyserving.platforms.python.options import PythonOptions
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.platforms.tflite.options import TFLiteOptions
from pyserving.server.seeing import SeeingOptions
from pyserving.server.tls import PemFiles
from pyserving.sources.model_config import ModelConfig
from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.limits import HttpLimits


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are in seconds, sizes in bytes."""

    models: Sequence[ModelConfig]
    config_file: str = ""
    """Where ``models`` were read from, to be read again; empty: not from a file."""
    config_poll_wait: float = 0.0
    """Between two readings of ``config_file``; 0: it is not read again."""

    host: str = ""
    """Where both ports listen; empty: on all addresses."""
    grpc_port: int | None = 8500
    """None: no gRPC over TCP; 0: a free port."""
    rest_port: int | None = 8501
    """None: no REST; 0: a free port."""
    grpc_socket_path: str = ""
    """A UNIX socket for gRPC besides the port; empty: none."""
    grpc_limits: GrpcLimits = field(default_factory=GrpcLimits)
    grpc_ssl_config_file: str = ""
    """An SSLConfig (text format) for the gRPC port; empty: no TLS."""
    rest_ssl_config_file: str = ""
    """The same for the REST port."""
    tls_files: PemFiles | None = None
    """For both ports, where they have no SSLConfig; None: no TLS."""
    api_keys_file: str = ""
    """API keys that clients must show (``key_file.py``); empty: none."""
    admin_from_anywhere: bool = False
    """Without API keys: who is not on this machine may change what is served, too."""
    open_metrics: bool = False
    """The page for Prometheus needs no API key."""
    http_limits: HttpLimits = field(default_factory=HttpLimits)
    seeing: SeeingOptions = field(default_factory=SeeingOptions)
    """What is logged and traced of requests."""
    grace_period: float = 30.0
    """How long requests in flight may take once the server was asked to stop."""
    drain_delay: float = 0.0
    """How long before that it is not ready, and still takes requests: so that load balancers hear of it in time."""
    ready_timeout: float | None = None
    """Within which all models must be available after the start, else the server ends; None: it waits for them."""

    workers: int = 1
    """Processes that answer requests; with more than one, another process leads them."""
    replicas: int = 1
    """Servers among which a load balancer divides the requests: with more than one, no model may keep state."""

    rest_timeout: float = 30.0
    cors: bool = False
    """REST answers carry the headers that let web pages of other origins read them."""
    as_tensor_content: bool = False
    """Outputs of gRPC Predict lie in tensor_content, not in the ``*_val`` fields."""
    session_service: bool = False
    """Serve SessionService over gRPC: clients may feed, fetch and run any part of a model's graph."""
    check_method_names: bool = False
    """Refuse a signature whose method name says that it was made for another method than the one called."""
    engine_threads: int = 8
    """Engine calls that may run at once, besides those that the event loop runs itself."""
    admission: AdmissionOptions = field(default_factory=AdmissionOptions)
    """Which requests may wait for an engine call; each worker counts its own."""
    request_memory: int | None = None
    """What all requests in the server may take, refused beyond; 0: what the machine has free; None: no limit."""
    batching: Policy = Batching.AUTOMATIC
    """How requests are joined for one engine call."""
    never_automatic: Collection[str] = ()
    """Names of models that are not batched where ``batching`` is automatic."""
    per_model_batching: bool = False
    """Each version folder says how, in batching_params.pbtxt; of ``batching`` only the number of threads counts."""

    poll_wait: float = 1.0
    """Between two looks at the model folders; 0: look once."""
    bucket_poll_wait: float = 60.0
    """Between two looks at a base path in an object store; 0: look once."""
    model_cache: str = ""
    """Folder for versions from object stores; empty: pyserving/models in the user's cache."""
    model_cache_keep: int = 2
    """Versions that are no longer used and stay in it, by base path."""
    num_load_threads: int = 0
    num_unload_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval: float = 60.0
    model_memory_limit: int | None = None
    """What all loaded models may need by their estimates; None: no limit."""
    model_memory_budget: int | None = None
    """The same, but models make room for others: those that were used least recently go, until they are needed again;
    None: they stay."""
    lazy: bool = False
    """Models are loaded at their first request, unless they are pinned."""
    allow_labels_for_unavailable: bool = False
    session_options: SessionOptions = field(default_factory=SessionOptions)
    op_libraries: Sequence[str] = ()
    """Paths of libraries with operations that TensorFlow itself does not have."""
    prefer_tflite: bool = False
    """Of a version folder with both, serve ``model.tflite``; one that has nothing else is served in any case."""
    tflite_options: TFLiteOptions = field(default_factory=TFLiteOptions)
    python_options: PythonOptions = field(default_factory=PythonOptions)
    isolate: bool = False
    """Each version has a process of its own, unless its model's config says otherwise."""
    acceleration: AccelerationOptions = field(default_factory=AccelerationOptions)
    """Which other engines may take SavedModels over from TensorFlow."""
    warmup_iterations: int = 1
    """How often each of a version's recorded requests is replayed before it is available; 0: there is no warmup."""

    metrics_path: str = "/monitoring/prometheus/metrics"
    """Where the REST port serves the page for Prometheus; empty: nowhere."""
    health: bool = True
    """Serve ``/healthz``, ``/readyz`` and the list of models at ``/v1/models``, which the original has not."""
    open_inference_protocol: bool = False
    """Serve the Open Inference Protocol on both ports (``/v2``, ``inference.GRPCInferenceService``)."""
    console: bool = False
    """Serve the web console at ``/`` of the REST port, and ``/openapi.json``, which the original has not."""
    grpc_health: bool = True
    """Serve ``grpc.health.v1.Health``."""
    reflection: bool = True
    """Serve gRPC's server reflection, which the original has not."""
    wait_for_models: bool = False
    """Open the ports when all models are available, and fail if one cannot be; else open them at once."""
    resolve_status_labels: bool = True
    """A label in a status request names its version; the original passes it over and shows all versions."""
