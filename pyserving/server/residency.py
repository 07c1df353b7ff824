"""What settings and the config of models say of loading for requests and of the memory budget, and what is counted."""

import threading
from collections.abc import Mapping, Sequence

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.manager import Manager
from pyserving.core.residency import Residency, Stay
from pyserving.core.resources import Resources, ResourceTracker
from pyserving.monitoring.metrics import Gauge, Histogram, Labels, Registry, exponential_bounds
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig


def stays_of(settings: Settings, models: Sequence[ModelConfig]) -> Mapping[str, Stay]:
    """By name. Raises INVALID_ARGUMENT for a model that cannot be served so."""
    stays = {}
    for model in models:
        options = model.options
        if options.lazy and settings.workers > 1:
            raise invalid_argument(f"Model {model.name} cannot be lazy where several workers answer requests")
        # Who wants a model to stay in memory wants it there, if nothing else is said of it.
        lazy = options.lazy or (settings.lazy and not options.pinned)
        stays[model.name] = Stay(lazy, options.pinned)
    return stays


def loads_for_requests(settings: Settings, models: Sequence[ModelConfig]) -> bool:
    """Whether there are models that requests may have to wait for."""
    return settings.model_memory_budget is not None or any(stay.lazy for stay in stays_of(settings, models).values())


def new_residency(settings: Settings) -> tuple[Residency, ResourceTracker]:
    """As the settings say. Raises INVALID_ARGUMENT, UNIMPLEMENTED."""
    limit, budget = settings.model_memory_limit, settings.model_memory_budget
    if limit is not None and budget is not None:
        raise invalid_argument(
            "Expected a memory limit, beyond which loads are refused, or a budget, within which models make room for "
            "each other; got both"
        )
    if settings.workers > 1 and (settings.lazy or budget is not None):
        raise ServingError(
            Code.UNIMPLEMENTED, "Loading at the first request and a memory budget need one process: leave --workers out"
        )
    bound = limit if budget is None else budget
    return Residency(evicts=budget is not None), ResourceTracker(None if bound is None else Resources(bound))


class LoadWaits:
    """Measures how long requests wait for loads. Any thread may call."""

    def __init__(self, registry: Registry) -> None:
        bounds = exponential_bounds(0.001, 2, 18)
        self._histogram = registry.add(Histogram("pyserving_load_wait_seconds", ["model_name"], bounds))
        self._lock = threading.Lock()

    def add(self, model_name: str, seconds: float) -> None:
        with self._lock:
            self._histogram.labels(model_name).observe(seconds)


def add_residency_metrics(registry: Registry, residency: Residency, manager: Manager) -> None:
    """Loads for requests, evictions, and the memory that loaded models need by their estimates."""

    def used() -> dict[Labels, float]:
        return {(): manager.resources.used.ram_bytes}

    def limit() -> dict[Labels, float]:
        limit = manager.resources.limit
        return {} if limit is None else {(): limit.ram_bytes}

    def loads() -> dict[Labels, float]:
        return {(name,): count for name, count in residency.loads.copy().items()}

    def evictions() -> dict[Labels, float]:
        return {(name,): count for name, count in residency.evictions.copy().items()}

    registry.add(Gauge("pyserving_model_memory_bytes", [], used))
    registry.add(Gauge("pyserving_model_memory_limit_bytes", [], limit))
    registry.add(Gauge("pyserving_lazy_loads_total", ["model_name"], loads, only_grows=True))
    registry.add(Gauge("pyserving_evictions_total", ["model_name"], evictions, only_grows=True))
