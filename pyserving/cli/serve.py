"""``pyserving serve``: the server, with today's manners."""

import os
import sys
from collections.abc import Sequence
from functools import partial

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pyserving.acceleration.accelerator import Acceleration, AccelerationOptions
from pyserving.acceleration.cache import default_root
from pyserving.batching.admission import AdmissionOptions, Limits
from pyserving.batching.parameters import Batching
from pyserving.cli.ending import Exit, fail
from pyserving.cli.example_request import curl_line
from pyserving.cli.model_folder import find_models
from pyserving.cli.number import LONGEST, Number
from pyserving.cli.terminal import errors_to
from pyserving.core.errors import ServingError
from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.platforms.registry import find_platforms
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.server.access_log import AccessLogFormat
from pyserving.server.directory import Directory
from pyserving.server.logs import LogFormat, log_to_stderr
from pyserving.server.ports import Ports
from pyserving.server.run import run
from pyserving.server.seeing import SeeingOptions
from pyserving.server.settings import Settings
from pyserving.server.tls import PemFiles
from pyserving.sources.model_config import ModelConfig, read_model_config_file
from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.limits import HttpLimits


@click.command()
@click.argument("path", required=False)
@click.option("--name", envvar="MODEL_NAME", help="Name of a single model; by default the name of its folder.")
@click.option("--config", type=click.Path(dir_okay=False), help="A models.config file, in place of PATH.")
@click.option("--host", default="", help="Address to listen on; by default all of this machine's.")
@click.option("--rest-port", default=8501, show_default=True, help="Port of the REST interface; 0 takes a free one.")
@click.option("--port", default=8500, show_default=True, help="Port of the gRPC interface; 0 takes a free one.")
@click.option("--grpc-socket", default="", help="A UNIX socket that serves gRPC too.")
@click.option(
    "--poll",
    type=Number(0, LONGEST),
    default=1.0,
    show_default=True,
    help="Seconds between two looks for new versions; 0: once.",
)
@click.option(
    "--bucket-poll",
    type=Number(0, LONGEST),
    default=60.0,
    show_default=True,
    help="The same for base paths in object stores, where each look costs a request.",
)
@click.option(
    "--model-cache",
    type=click.Path(file_okay=False),
    default="",
    help="Folder for versions from object stores; by default pyserving/models in the user's cache.",
)
@click.option(
    "--model-cache-keep",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Versions that are no longer served and stay in it, by model.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that answer requests; for models whose runs change no variables.",
)
@click.option(
    "--memory-limit", type=click.IntRange(min=1), help="Bytes that all models may need; a load beyond it is refused."
)
@click.option(
    "--model-memory-budget",
    type=click.IntRange(min=1),
    help="Bytes that all loaded models may need; those that were used least recently make room for others.",
)
@click.option("--lazy", is_flag=True, help="Load each model at its first request, unless it is pinned.")
@click.option("--tags", default="serve", show_default=True, help="Tags of the graph to load, with commas between.")
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Threads that share one operation; 0: as many as there are cores.",
)
@click.option(
    "--op-library",
    "op_libraries",
    multiple=True,
    type=click.Path(dir_okay=False),
    help="A library (.so) with operations that TensorFlow itself does not have; may be given several times.",
)
@click.option(
    "--python-models",
    type=click.Choice([choice.value for choice in PythonModels]),
    default=PythonModels.OFF.value,
    show_default=True,
    help="Whether code in version folders (model.py) is run; process: always in a process of its own.",
)
@click.option(
    "--isolate",
    is_flag=True,
    help="Run each version in a process of its own: what happens there hurts no other model. Per model: "
    "pyserving { isolation: PROCESS } in models.config.",
)
@click.option(
    "--accelerate",
    type=click.Choice([choice.value for choice in Acceleration]),
    default=Acceleration.AUTO.value,
    show_default=True,
    help="Engines that may take SavedModels over from TensorFlow, once they were seen to give the same answers faster.",
)
@click.option(
    "--acceleration-cache",
    type=click.Path(file_okay=False),
    default=default_root(),
    help="Folder for what they compile; by default pyserving/acceleration in the user's cache.",
)
@click.option(
    "--acceleration-requests",
    type=click.IntRange(min=0),
    default=0,
    help="Clients' requests that are kept in memory for the first comparison, up to so many a signature.",
)
@click.option(
    "--batching",
    type=click.Choice([choice.value for choice in Batching]),
    default=Batching.AUTOMATIC.value,
    show_default=True,
    help="automatic: join requests that arrive while others are computed, for models whose rows are independent.",
)
@click.option(
    "--batching-exclude",
    multiple=True,
    metavar="NAME",
    help="A model that is not batched automatically; may be given several times.",
)
@click.option(
    "--max-queued",
    type=click.IntRange(min=1),
    default=4000,
    show_default=True,
    help="Requests of all models that may wait for an engine; more are refused (429, RESOURCE_EXHAUSTED).",
)
@click.option(
    "--max-queued-per-model",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="The same for each model that says nothing itself.",
)
@click.option("--max-in-flight", type=click.IntRange(min=1), help="Requests that may wait or be computed at a time.")
@click.option(
    "--max-in-flight-per-model",
    type=click.IntRange(min=1),
    help="The same for each model that says nothing itself.",
)
@click.option(
    "--refuse-late/--no-refuse-late",
    default=True,
    show_default=True,
    help="Refuse at once what cannot be answered within its deadline.",
)
@click.option(
    "--request-memory",
    type=click.IntRange(min=0),
    default=0,
    help="Bytes that requests may take at a time; larger ones are refused. 0: what the machine or container has free.",
)
@click.option(
    "--grace",
    type=Number(0, LONGEST),
    default=30.0,
    show_default=True,
    help="Seconds that requests may take to end at a stop.",
)
@click.option(
    "--drain-delay",
    type=Number(0, LONGEST),
    default=0.0,
    show_default=True,
    help="Seconds at a stop in which /readyz says no and requests are still taken, for load balancers to hear of it.",
)
@click.option(
    "--wait-for-models",
    is_flag=True,
    help="Open the ports when all models are available, and end if one cannot be; for proxies that ask no /readyz.",
)
@click.option(
    "--ready-timeout",
    type=Number(0, LONGEST, min_open=True),
    help="Seconds after which the server ends, naming them, if not all models are available; by default it waits.",
)
@click.option("--tls-cert", default="", help="Certificate (PEM, issuers behind it) for both ports; needs --tls-key.")
@click.option("--tls-key", default="", help="Its key (PEM). All TLS files may change while the server runs.")
@click.option(
    "--tls-client-ca", default="", help="Who signs the certificates that clients must show (PEM): mutual TLS."
)
@click.option("--api-keys", default="", help="File of the API keys that clients must show; see pyserving keys.")
@click.option("--open-metrics", is_flag=True, help="With --api-keys: metrics need none.")
@click.option(
    "--max-body",
    type=click.IntRange(min=0),
    default=HttpLimits().max_body,
    show_default=True,
    help="Bytes of one request, as sent and decompressed.",
)
@click.option(
    "--max-header",
    type=click.IntRange(min=1024),
    default=HttpLimits().max_head,
    show_default=True,
    help="Bytes of the headers of one request.",
)
@click.option("--max-connections", type=click.IntRange(min=1), help="Open connections of each port and worker.")
@click.option(
    "--idle-timeout",
    type=Number(0, LONGEST, min_open=True),
    help="Seconds after which a connection without a request is closed; by default 75 for REST, never for gRPC.",
)
@click.option(
    "--console/--no-console",
    "web_console",
    default=True,
    show_default=True,
    help="The web console at / of the REST port.",
)
@click.option("--access-log", default="", metavar="PATH|-", help="A line for each request; -: on standard output.")
@click.option(
    "--access-log-format",
    type=click.Choice([form.value for form in AccessLogFormat]),
    default=AccessLogFormat.JSON.value,
    show_default=True,
)
@click.option(
    "--slow-request-ms",
    type=Number(min=0),
    help="Log requests that take longer, with the times of their stages.",
)
@click.option(
    "--tracing/--no-tracing",
    default=None,
    help="OpenTelemetry traces, as OTEL_* variables say; by default where such a variable names an endpoint and "
    "OpenTelemetry is installed.",
)
@click.option(
    "--v2/--no-v2",
    "open_inference_protocol",
    default=True,
    show_default=True,
    help="The Open Inference Protocol (KServe, Triton) on both ports: /v2 and inference.GRPCInferenceService.",
)
@click.option(
    "--log-format",
    type=click.Choice([form.value for form in LogFormat]),
    default=LogFormat.TEXT.value,
    show_default=True,
    help="Lines of the log.",
)
def serve(
    path: str | None,
    name: str | None,
    config: str | None,
    host: str,
    rest_port: int,
    port: int,
    grpc_socket: str,
    poll: float,
    bucket_poll: float,
    model_cache: str,
    model_cache_keep: int,
    workers: int,
    memory_limit: int | None,
    model_memory_budget: int | None,
    lazy: bool,
    tags: str,
    threads: int,
    op_libraries: tuple[str, ...],
    python_models: str,
    isolate: bool,
    accelerate: str,
    acceleration_cache: str,
    acceleration_requests: int,
    batching: str,
    batching_exclude: tuple[str, ...],
    max_queued: int,
    max_queued_per_model: int,
    max_in_flight: int | None,
    max_in_flight_per_model: int | None,
    refuse_late: bool,
    request_memory: int,
    grace: float,
    drain_delay: float,
    wait_for_models: bool,
    ready_timeout: float | None,
    tls_cert: str,
    tls_key: str,
    tls_client_ca: str,
    api_keys: str,
    open_metrics: bool,
    max_body: int,
    max_header: int,
    max_connections: int | None,
    idle_timeout: float | None,
    web_console: bool,
    open_inference_protocol: bool,
    access_log: str,
    access_log_format: str,
    slow_request_ms: float | None,
    tracing: bool | None,
    log_format: str,
) -> None:
    """Serves the models under PATH: one model's folder of versions, a folder of several models, or a model without
    a version, which becomes version 1.

    Without PATH, MODEL_BASE_PATH and MODEL_NAME say what to serve, as in TensorFlow Serving's image.
    """
    console = errors_to()
    log_to_stderr(form=LogFormat(log_format))
    try:
        settings = Settings(
            models=_models(path, name, config),
            host=host,
            rest_port=rest_port,
            grpc_port=port,
            grpc_socket_path=grpc_socket,
            poll_wait=poll,
            bucket_poll_wait=bucket_poll,
            model_cache=os.path.abspath(model_cache) if model_cache else "",
            model_cache_keep=model_cache_keep,
            workers=workers,
            model_memory_limit=memory_limit,
            model_memory_budget=model_memory_budget,
            lazy=lazy,
            op_libraries=op_libraries,
            python_options=PythonOptions(PythonModels(python_models)),
            isolate=isolate,
            acceleration=AccelerationOptions(Acceleration(accelerate), acceleration_cache, acceleration_requests),
            batching=Batching(batching),
            never_automatic=batching_exclude,
            request_memory=request_memory,
            admission=AdmissionOptions(
                Limits(max_in_flight, max_queued),
                Limits(max_in_flight_per_model, max_queued_per_model),
                watch_deadlines=refuse_late,
            ),
            grace_period=grace,
            drain_delay=drain_delay,
            wait_for_models=wait_for_models,
            ready_timeout=ready_timeout,
            tls_files=_tls_files(tls_cert, tls_key, tls_client_ca),
            api_keys_file=api_keys,
            open_metrics=open_metrics,
            http_limits=HttpLimits(
                max_body=max_body,
                max_head=max_header,
                max_connections=max_connections,
                idle_timeout=idle_timeout or HttpLimits().idle_timeout,
            ),
            grpc_limits=GrpcLimits(
                max_receive_message=max_body,
                max_header_list=min(max_header, GrpcLimits().max_header_list),
                max_connections=max_connections,
                idle_timeout=idle_timeout,
            ),
            console=web_console,
            open_inference_protocol=open_inference_protocol,
            seeing=SeeingOptions(
                access_log=access_log,
                access_log_format=AccessLogFormat(access_log_format),
                slow_seconds=None if slow_request_ms is None else slow_request_ms / 1e3,
                tracing=tracing,
            ),
            session_options=SessionOptions(
                tags=tuple(tag for tag in tags.split(",") if tag), intra_op_parallelism=threads
            ),
        )
        sys.exit(run(settings, on_models_settled=partial(_show, console, bool(tls_cert), web_console)))
    except ServingError as error:
        fail(error.message, Exit.FAILED, what="cannot serve")


def _models(path: str | None, name: str | None, config: str | None) -> Sequence[ModelConfig]:
    if config is not None:
        if path is not None:
            raise click.UsageError("give PATH or --config, not both")
        return read_model_config_file(os.path.abspath(config), platforms=find_platforms()) or ()
    if path is None:
        base_path = os.environ.get("MODEL_BASE_PATH")
        if not name and not base_path:
            raise click.UsageError("give PATH: a folder of versions (such as ./my_model with ./my_model/1 in it)")
        path = os.path.join(base_path or "/models", name or "model")
    return find_models(path, name)


def _tls_files(certificate: str, key: str, client_ca: str) -> PemFiles | None:
    if bool(certificate) != bool(key):
        raise click.UsageError("give --tls-cert and --tls-key together")
    if client_ca and not certificate:
        raise click.UsageError("--tls-client-ca needs --tls-cert and --tls-key")
    return PemFiles(certificate, key, client_ca) if certificate else None


def _show(console: Console, secure: bool, web_console: bool, directory: Directory, ports: Ports) -> None:
    """The summary: what is served, where, and a line to try it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "version", "state", "path"):
        table.add_column(heading)
    scheme = "https" if secure else "http"
    examples = []
    for model in directory.models:
        states = directory.monitor.states(model.name)
        for state in states:
            shown = "not loaded until a request needs it" if state.dormant else state.state.name
            shown = f"[green]{state.state.name}" if state.state is State.AVAILABLE else shown
            if state.error:
                shown = f"[red]{escape(str(state.error))}"
            table.add_row(escape(model.name), str(state.id.version), shown, escape(model.base_path))
        if not states:
            table.add_row(escape(model.name), "-", "[yellow]waiting for a version", escape(model.base_path))
        if ports.rest_address and any(state.state is State.AVAILABLE for state in states):
            with directory.serving.acquire(model.name) as handle:
                examples.append(curl_line(model.name, handle.servable, ports.rest_address, scheme))
    console.print()
    console.print(table)
    console.print()
    if ports.rest_address:
        origin = f"{scheme}://{ports.rest_address}"
        console.print(f"REST  {origin}/v1/models", highlight=False)
        if web_console:
            console.print(f"web   {origin}/", highlight=False)
    for address in ports.grpc_addresses:
        console.print(f"gRPC  {address}", highlight=False)
    if examples:
        console.print("\ntry:  ", end="")
        console.print("\n      ".join(examples[:3]), highlight=False, markup=False, soft_wrap=True)
    console.print()
