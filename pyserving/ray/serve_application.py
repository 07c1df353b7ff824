"""Builds a Ray Serve application from the models that a server would serve."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.platforms.registry import find_platforms
from pyserving.ray.deployments import Barriers, ModelReplica
from pyserving.ray.ingress import Ingress
from pyserving.ray.options import (
    check_ingress_replicas,
    check_models,
    check_placement,
    deployment_options,
    max_replicas,
)
from pyserving.ray.replica import read_models
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig, config_of, read_model_config_file, single_model

SERVICES = "pyserving.ray:add_services"
"""What Ray's option ``grpc_servicer_functions`` has to name."""

APPLICATION = "pyserving"
"""What ``run`` calls the application."""

_INGRESS_CONCURRENCY = 10_000
"""Requests that an ingress replica holds at a time: it only passes them on."""
_NO_ACCESS_LOG = {"enable_access_log": False}


def application(
    models: Sequence[ModelConfig],
    settings: Settings | None = None,
    *,
    ingress_replicas: int = 1,
    ingress_resources: Mapping[str, float] = {},
) -> Any:
    """A ``ray.serve.Application`` that serves ``models``: a deployment for each, and an ingress that speaks REST and
    gRPC.

    Of ``settings``, what is about ports, workers, metrics and the console has no effect: these are Ray's business. With
    a ``config_file`` and a ``config_poll_wait``, labels, weights, version policies and base paths follow that file.
    ``ingress_resources``: what Ray has to find on a node for the ingress, and for what keeps replicas in step.

    Raises ServingError: INVALID_ARGUMENT for what cannot be served so; RESOURCE_EXHAUSTED where Ray runs here and none
    of its nodes can hold a replica.
    """
    settings = settings or Settings([])
    _check(settings)
    config = _packed(models)
    check_models(read_models(config))
    check_ingress_replicas(ingress_replicas)
    if ray.is_initialized():
        check_placement(models, ray.nodes(), ingress_resources)
    inner = replace(
        settings,
        models=[],
        config_file="",
        grpc_port=None,
        rest_port=None,
        workers=1,
        console=False,
        reflection=False,
        health=True,
        grpc_health=True,
        open_inference_protocol=True,
        metrics_path="",
        allow_labels_for_unavailable=True,
        wait_for_models=False,
    )
    patient = {"graceful_shutdown_timeout_s": settings.grace_period}
    passing_on = {
        "ray_actor_options": {"num_cpus": 0, "resources": dict(ingress_resources)},
        "max_ongoing_requests": _INGRESS_CONCURRENCY,
        **patient,
    }
    barriers = _deployment(Barriers, name="barriers", num_replicas=1, **passing_on).bind(
        config, settings.config_file, settings.config_poll_wait
    )
    replicas = {
        model.name: _deployment(ModelReplica, **deployment_options(model), **patient).bind(
            replace(inner, replicas=max_replicas(model)), _packed([model]), barriers
        )
        for model in models
    }
    ingress = _deployment(Ingress, name="ingress", num_replicas=ingress_replicas, **passing_on)
    return ingress.bind(inner, config, replicas)


def build(args: Mapping[str, Any]) -> Any:
    """The application, for ``serve run pyserving.ray:build model_name=m model_base_path=/models/m``.

    ``args``: ``model_config_file``, with ``model_config_file_poll_wait_seconds``; or ``model_name`` and
    ``model_base_path``; ``python_models`` (``off``, ``on``, ``process``) and ``ingress_replicas``. Raises ServingError.
    """
    known = {
        *("model_config_file", "model_config_file_poll_wait_seconds", "model_name", "model_base_path"),
        *("python_models", "ingress_replicas"),
    }
    if unknown := sorted(set(args) - known):
        raise invalid_argument(f"Expected arguments out of {', '.join(sorted(known))}; got {', '.join(unknown)}")
    path = str(args.get("model_config_file", ""))
    if bool(path) == ("model_base_path" in args):
        raise invalid_argument("Expected either model_config_file or model_base_path")
    if path:
        models = read_model_config_file(path, platforms=find_platforms()) or []
    else:
        models = single_model(str(args.get("model_name", "default")), str(args["model_base_path"]))
    wait = _number(args, "model_config_file_poll_wait_seconds", 0.0)
    choices = [choice.value for choice in PythonModels]
    python = args.get("python_models", PythonModels.OFF.value)
    if python not in choices:
        raise invalid_argument(f"Expected python_models to be one of {', '.join(choices)}; got {python!r}")
    settings = Settings([], config_file=path, config_poll_wait=wait, python_options=PythonOptions(PythonModels(python)))
    count = _number(args, "ingress_replicas", 1)
    if not count.is_integer():
        raise invalid_argument(f"Expected ingress_replicas to be a whole number, got {args['ingress_replicas']!r}")
    return application(models, settings, ingress_replicas=int(count))


def run(
    models: Sequence[ModelConfig],
    settings: Settings | None = None,
    *,
    host: str = "127.0.0.1",
    rest_port: int = 8501,
    grpc_port: int = 8500,
    ingress_replicas: int = 1,
    ingress_resources: Mapping[str, float] = {},
) -> None:
    """Starts Ray Serve with both ports where it does not run yet, and serves ``models``; returns once they answer.

    Raises ServingError: as ``application`` does; UNAVAILABLE, with Ray's words, where a model could not be deployed.
    """
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(include_dashboard=False)
    app = application(models, settings, ingress_replicas=ingress_replicas, ingress_resources=ingress_resources)
    serve.start(
        http_options=HTTPOptions(host=host, port=rest_port),
        grpc_options=gRPCOptions(port=grpc_port, grpc_servicer_functions=[SERVICES]),
    )
    try:
        serve.run(app, name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        deployed = serve.status().applications.get(APPLICATION)
        parts = deployed.deployments.items() if deployed else ()
        whys = "; ".join(f"{name}: {status.message}" for name, status in parts if status.message)
        raise ServingError(Code.UNAVAILABLE, f"{error} {whys}".strip()) from None


def _deployment(kind: type[Any], **options: Any) -> Any:
    return serve.deployment(kind, logging_config=_NO_ACCESS_LOG, **options)


def _packed(models: Sequence[ModelConfig]) -> bytes:
    return config_of(models).SerializeToString(deterministic=True)


def _number(args: Mapping[str, Any], name: str, default: float) -> float:
    try:
        value = float(args.get(name, default))
    except (TypeError, ValueError):
        value = -1
    if not 0 <= value < math.inf:
        raise invalid_argument(f"Expected {name} to be a number of 0 or more, got {args[name]!r}")
    return value


def _check(settings: Settings) -> None:
    unfit = {
        "lazy models": settings.lazy,
        "a memory budget": settings.model_memory_budget is not None,
        "SessionService": settings.session_service,
        "API keys": bool(settings.api_keys_file),
        "TLS": settings.tls_files is not None or settings.grpc_ssl_config_file or settings.rest_ssl_config_file,
    }
    if found := [name for name, there in unfit.items() if there]:
        raise invalid_argument(f"Expected nothing that Ray cannot serve with, got {', '.join(found)}")
