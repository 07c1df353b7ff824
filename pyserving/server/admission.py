"""What settings and the config of models say of admission, and what is counted of it."""

import threading
from collections.abc import Iterable, Mapping

from pyserving.batching.admission import Admission, AdmissionOptions, Limits, ModelTerms
from pyserving.batching.priority import Priority
from pyserving.monitoring.metrics import Counter, Gauge, Labels, Registry
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig
from pyserving.transport.request_memory import RequestMemory

_PRIORITIES = {
    messages.ModelOptions.HIGH: Priority.HIGH,
    messages.ModelOptions.NORMAL: Priority.NORMAL,
    messages.ModelOptions.LOW: Priority.LOW,
}


def terms_of(models: Iterable[ModelConfig]) -> Mapping[str, ModelTerms]:
    """What the models say for themselves."""
    return {
        model.name: ModelTerms(
            Limits(model.options.max_in_flight or None, model.options.max_queued or None),
            _PRIORITIES.get(model.options.priority, Priority.NORMAL),
        )
        for model in models
    }


class Refusals:
    """Counts refused requests by model and reason. Any thread may call."""

    def __init__(self, registry: Registry) -> None:
        self._counter = registry.add(Counter("pyserving_refused_requests_total", ["model_name", "reason"]))
        self._lock = threading.Lock()

    def add(self, model_name: str, reason: str) -> None:
        with self._lock:
            self._counter.labels(model_name, reason).add()


def new_admission(options: AdmissionOptions, registry: Registry) -> Admission:
    """With its metrics."""
    admission = Admission(options, Refusals(registry).add)

    def waiting() -> dict[Labels, float]:
        return {(name,): count for name, count in admission.waiting_requests().items()}

    registry.add(Gauge("pyserving_queued_requests", ["model_name"], waiting))
    return admission


def new_request_memory(limit: int | None, workers: int, registry: Registry) -> RequestMemory | None:
    """With its metrics; see ``Settings.request_memory``."""
    if limit is None:
        return None
    refused = registry.add(Counter("pyserving_requests_refused_for_memory_total", [])).labels()
    memory = RequestMemory(limit // workers or None, refused.add)
    registry.add(Gauge("pyserving_request_memory_bytes", [], lambda: {(): memory.held}))
    return memory
