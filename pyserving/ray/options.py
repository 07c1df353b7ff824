"""What a model's config says of its replicas, as Ray Serve wants to hear it."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.protos import messages
from pyserving.server.rollout_rules import check_rules
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.model_source import check_sources

_MIN_CONCURRENCY = 100
"""Requests that a replica takes at a time, unless it aims at more: beyond that they wait for any replica."""
_MAX_TARGET = 1e6
_MAX_REPLICAS = 10_000
"""Of a deployment: Serve makes an object of each at once, and more is a slip of the hand."""
_SMALLEST_SHARE = 0.0001
"""Of a CPU or GPU; Ray counts no smaller ones."""


def check_models(models: Sequence[ModelConfig]) -> None:
    """Raises INVALID_ARGUMENT, which names the model, for what cannot be."""
    check_rules(models)
    check_sources(models)
    for model in models:
        check_model(model)


def check_model(model: ModelConfig) -> None:
    """Raises INVALID_ARGUMENT where Ray cannot serve a model as its config says."""
    ray = model.options.ray
    where = f"Model {model.name}, pyserving.ray: expected"
    for name in ("target_ongoing_requests", "num_cpus", "num_gpus", "upscale_delay", "downscale_delay"):
        if not 0 <= (value := getattr(ray, name)) < math.inf:
            raise invalid_argument(f"{where} {name} of 0 or more, got {value:g}")
    for name in ("num_cpus", "num_gpus"):
        if 0 < (value := getattr(ray, name)) < _SMALLEST_SHARE:
            raise invalid_argument(f"{where} {name} of {_SMALLEST_SHARE:g} or more, got {value:g}")
    if ray.num_gpus > 1 and not ray.num_gpus.is_integer():
        raise invalid_argument(f"{where} num_gpus of 1 or less, or a whole number, got {ray.num_gpus:g}")
    if ray.target_ongoing_requests > _MAX_TARGET:
        raise invalid_argument(
            f"{where} target_ongoing_requests of at most {_MAX_TARGET:g}, got {ray.target_ongoing_requests:g}"
        )
    for name in ("replicas", "max_replicas"):
        if (count := getattr(ray, name)) > _MAX_REPLICAS:
            raise invalid_argument(f"{where} {name} of at most {_MAX_REPLICAS}, got {count}")
    if ray.replicas and (ray.min_replicas or ray.max_replicas):
        raise invalid_argument(f"{where} either replicas, or min_replicas and max_replicas, got both")
    if ray.min_replicas and ray.min_replicas > ray.max_replicas:
        raise invalid_argument(
            f"{where} min_replicas of at most max_replicas, got {ray.min_replicas} and {ray.max_replicas}"
        )
    if model.options.lazy:
        raise invalid_argument(f"Model {model.name}: Ray cannot serve it lazily; replicas load it before they answer")
    if model.is_pushed:
        raise invalid_argument(
            f"Model {model.name}: with Ray, versions are found in folders; pushed to one replica, others would not know"
        )
    if model.options.gate.manual and not model.options.traffic.default_version:
        raise invalid_argument(
            f"Model {model.name}: with gate {{ manual: true }}, Ray needs traffic {{ default_version }}; "
            "nobody can promote a version in all replicas, and one that starts anew could not know which it is"
        )


def check_ingress_replicas(count: int) -> None:
    """Raises INVALID_ARGUMENT."""
    if not 1 <= count <= _MAX_REPLICAS:
        raise invalid_argument(f"Expected ingress_replicas of 1 to {_MAX_REPLICAS}, got {count}")


def max_replicas(model: ModelConfig) -> int:
    """How many replicas there may be at a time."""
    ray = model.options.ray
    return ray.max_replicas or ray.replicas or 1


def deployment_name(model: str) -> str:
    """Of a model's deployment: Serve makes names of files and of actors from it."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", model)
    return f"model-{plain}" if plain == model else f"model-{plain}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def deployment_options(model: ModelConfig) -> dict[str, Any]:
    """The options of ``serve.deployment``."""
    ray = model.options.ray
    options: dict[str, Any] = {
        "name": deployment_name(model.name),
        "ray_actor_options": _resources(ray),
        "max_ongoing_requests": max(_MIN_CONCURRENCY, math.ceil(2 * ray.target_ongoing_requests)),
    }
    if not ray.max_replicas:
        return options | {"num_replicas": ray.replicas or 1}
    scaling: dict[str, Any] = {"min_replicas": ray.min_replicas or 1, "max_replicas": ray.max_replicas}
    if ray.target_ongoing_requests:
        scaling["target_ongoing_requests"] = ray.target_ongoing_requests
    if ray.upscale_delay:
        scaling["upscale_delay_s"] = ray.upscale_delay
        # What was counted before that says nothing; and Ray wants to count more than once in the time.
        scaling["look_back_period_s"] = min(30.0, max(1.0, ray.upscale_delay))
        scaling["metrics_interval_s"] = min(10.0, scaling["look_back_period_s"] / 3)
    if ray.downscale_delay:
        scaling["downscale_delay_s"] = ray.downscale_delay
    return options | {"autoscaling_config": scaling}


def check_placement(
    models: Sequence[ModelConfig], nodes: Sequence[Mapping[str, Any]], ingress: Mapping[str, float] = {}
) -> None:
    """Raises RESOURCE_EXHAUSTED where no node can ever hold a replica, or what the ``ingress`` asks for.

    ``nodes``: as ``ray.nodes()`` tells of them.
    """
    wanted = {f"a replica of model {model.name}": _asked(model.options.ray) for model in models}
    alive = [node for node in nodes if node.get("Alive")]
    for what, asked in {**wanted, "the ingress": ingress}.items():
        if not any(all(node["Resources"].get(name, 0) >= amount for name, amount in asked.items()) for node in alive):
            listed = "; ".join(
                f"{node['NodeManagerAddress']} {_text({name: node['Resources'].get(name, 0) for name in asked})}"
                for node in alive
            )
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"No node can hold {what}: it asks for {_text(asked)}; the nodes have: {listed or 'there are none'}",
            )


def _resources(ray: messages.RayOptions) -> dict[str, float]:
    options: dict[str, float] = {"num_cpus": ray.num_cpus or 1.0}
    if ray.num_gpus:
        options["num_gpus"] = ray.num_gpus
    if ray.memory:
        options["memory"] = ray.memory
    return options


def _asked(ray: messages.RayOptions) -> dict[str, float]:
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    return {names[name]: amount for name, amount in _resources(ray).items()}


def _text(resources: Mapping[str, float]) -> str:
    return ", ".join(
        f"{amount / 2**30:.3g} GiB of memory"
        if name == "memory"
        else f"{amount:g} {name}{'s' if name in ('CPU', 'GPU') else ''}"
        for name, amount in resources.items()
    )
