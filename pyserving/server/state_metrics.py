"""How the server stands: its versions, the requests that hold them, its connections, its request log."""

from collections import Counter
from collections.abc import Sequence

from pyserving.acceleration.accelerator import Accelerator
from pyserving.api.access import Access
from pyserving.core.monitor import ServableStateMonitor
from pyserving.core.serving_map import ServingMap
from pyserving.core.state import State
from pyserving.monitoring.metrics import Gauge, Labels, Registry
from pyserving.platforms.process.model import ProcessModel
from pyserving.server.request_log_writer import RequestLogWriter
from pyserving.transport.listener import Listener


def add_version_metrics(registry: Registry, monitor: ServableStateMonitor) -> None:
    """How many versions there are in each state."""

    def versions() -> dict[Labels, float]:
        """Each state has a value, so that an alert on 0 has something to see."""
        counts: dict[Labels, float] = {}
        for name in monitor.names():
            found = Counter(state.state for state in monitor.states(name))
            counts.update({(name, state.name): found[state] for state in State})
        return counts

    def failed() -> dict[Labels, float]:
        return {(name,): sum(state.error is not None for state in monitor.states(name)) for name in monitor.names()}

    registry.add(Gauge("pyserving_versions", ["model_name", "state"], versions))
    registry.add(Gauge("pyserving_failed_versions", ["model_name"], failed))


def add_acceleration_metrics(registry: Registry, accelerator: Accelerator) -> None:
    """Which engine serves which signature, and how often its answers were compared with TensorFlow's."""
    labels = ["model_name", "version", "signature", "engine"]

    def compared() -> dict[Labels, float]:
        return {(name,): count for name, count in accelerator.compared.items()}

    def disagreed() -> dict[Labels, float]:
        return {(name,): accelerator.disagreed[name] for name in list(accelerator.compared)}

    def serving() -> dict[Labels, float]:
        return {
            (servable.name, str(servable.version), signature, report.engine): 1
            for servable in accelerator.servables()
            for signature, report in accelerator.report(servable).items()
        }

    registry.add(Gauge("pyserving_signature_engine", labels, serving))
    registry.add(Gauge("pyserving_compared_answers_total", ["model_name"], compared, only_grows=True))
    registry.add(Gauge("pyserving_disagreeing_answers_total", ["model_name"], disagreed, only_grows=True))


def add_access_metrics(registry: Registry, access: Access) -> None:
    """Requests that were refused for want of a key, or of what the key allows."""

    def refused() -> dict[Labels, float]:
        return {(code,): access.refused[code] for code in ("UNAUTHENTICATED", "PERMISSION_DENIED")}

    registry.add(Gauge("pyserving_unauthorized_requests_total", ["code"], refused, only_grows=True))


def add_process_model_metrics(registry: Registry, serving: ServingMap) -> None:
    """Of models that have processes of their own: whether these are there, and how often they were started anew."""

    def models() -> dict[Labels, ProcessModel]:
        return {
            (servable.name, str(servable.version)): model
            for servable, model in serving.served().items()
            if isinstance(model, ProcessModel)
        }

    def up() -> dict[Labels, float]:
        return {labels: int(model.is_up) for labels, model in models().items()}

    def restarts() -> dict[Labels, float]:
        return {labels: model.restarts for labels, model in models().items()}

    labels = ["model_name", "version"]
    registry.add(Gauge("pyserving_model_process_up", labels, up))
    registry.add(Gauge("pyserving_model_process_restarts_total", labels, restarts, only_grows=True))


def add_front_metrics(
    registry: Registry, serving: ServingMap, listeners: Sequence[Listener], request_log: RequestLogWriter
) -> None:
    """Requests in flight, connections, and the request log. ``listeners`` may grow later."""

    def in_flight() -> dict[Labels, float]:
        counts: Counter[str] = Counter()
        for servable, requests in serving.requests_in_flight().items():
            counts[servable.name] += requests
        return {(name,): count for name, count in counts.items()}

    def connections() -> dict[Labels, float]:
        return {(" ".join(listener.addresses),): len(listener.connections) for listener in listeners}

    def logged() -> dict[Labels, float]:
        counts = {"written": request_log.written, "dropped": request_log.dropped, "failed": request_log.failed}
        return {(outcome,): count for outcome, count in counts.items()}

    registry.add(Gauge("pyserving_requests_in_flight", ["model_name"], in_flight))
    registry.add(Gauge("pyserving_connections", ["address"], connections))
    registry.add(Gauge("pyserving_request_log_records_total", ["outcome"], logged, only_grows=True))
