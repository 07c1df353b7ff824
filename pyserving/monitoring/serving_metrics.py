"""What is recorded of requests and loads, under the names that TensorFlow Serving gave them.

Times come in seconds and are kept in microseconds. Everything but loads and warmups is recorded on the event loop.
"""

from collections.abc import Callable
from threading import Lock

from pyserving.monitoring.metrics import Counter, CounterChild, Histogram, HistogramChild, Registry, exponential_bounds

MAX_UNKNOWN_NAMES = 100
"""So many model names that no model has are shown: a client could invent them for ever, and each takes memory."""
MAX_UNKNOWN_NAME_LENGTH = 128
OTHER_NAMES = "(other)"
"""In place of those beyond."""

_LATENCIES = exponential_bounds(10, 1.8, 33)


class ServingMetrics:
    """The metrics of one server. Others than these are added to ``registry``."""

    def __init__(self, is_model: Callable[[str], bool]) -> None:
        """``is_model``: whether there is a model of this name, broken ones included."""
        self.registry = Registry()
        add = self.registry.add
        serving = ":tensorflow:serving:"
        self._requests = add(Counter(serving + "request_count", ["model_name", "status"]))
        self._latency = add(Histogram(serving + "request_latency", ["model_name", "API", "entrypoint"], _LATENCIES))
        self._runtime = add(Histogram(serving + "runtime_latency", ["model_name", "API", "runtime"], _LATENCIES))
        self._example_counts = add(
            Histogram(serving + "request_example_counts", ["model"], exponential_bounds(1, 2, 15))
        )
        self._examples = add(Counter(serving + "request_example_count_total", ["model"]))
        self._warmups = add(Histogram(serving + "model_warmup_latency", ["model_path", "status"], _LATENCIES))
        self.queuing_latency = add(
            Histogram(
                serving + "batching_session:queuing_latency", ["thread_pool_name"], exponential_bounds(100, 1.2, 52)
            )
        )
        """In microseconds: how long requests wait for their batch to begin."""
        self._loads = add(Counter(":tensorflow:cc:saved_model:load_attempt_count", ["model_path", "status"]))
        self._load_time = add(Counter(":tensorflow:cc:saved_model:load_latency", ["model_path"]))

        self._is_model = is_model
        self._unknown_names: set[str] = set()
        self._answered: dict[tuple[str, str, str], tuple[CounterChild, HistogramChild]] = {}
        self._ran: dict[tuple[str, str], HistogramChild] = {}
        self._loading = Lock()

    def request_answered(self, model_name: str, api: str, entrypoint: str, seconds: float) -> None:
        """A request succeeded, from its being read to its answer being written.

        ``api`` and ``entrypoint`` are ``predict`` and ``REST``, ``Predict`` and ``GRPC``, and so on; ``api`` is empty
        for REST requests that ask no model to compute, and so is ``model_name`` where none is asked for.
        """
        children = self._answered.get((model_name, api, entrypoint))
        if children is None:
            children = self._answered[model_name, api, entrypoint] = (
                self._requests.labels(model_name, "OK"),
                self._latency.labels(model_name, api, entrypoint),
            )
        children[0].value += 1
        children[1].observe(seconds * 1e6)

    def request_failed(self, model_name: str, status: str) -> None:
        """``model_name`` is what the client sent; ``status`` the name of the code: ``NOT_FOUND``."""
        self._requests.labels(self._shown_name(model_name), status).add()

    def ran(self, model_name: str, api: str, seconds: float) -> None:
        """An engine call for a request succeeded, the time in line for it included. ``api``: as over gRPC."""
        child = self._ran.get((model_name, api))
        if child is None:
            # TensorFlow Serving says TF1 of all that it runs in a session, TF2's SavedModels and TFLite included.
            child = self._ran[model_name, api] = self._runtime.labels(model_name, api, "TF1")
        child.observe(seconds * 1e6)

    def examples_computed(self, model_name: str, count: int) -> None:
        """One request held so many examples."""
        self._example_counts.labels(model_name).observe(count)
        self._examples.labels(model_name).add(count)

    def load_ended(self, path: str, seconds: float, *, loaded: bool) -> None:
        """An attempt to load the version in the folder ``path``. Any thread may call."""
        with self._loading:
            self._loads.labels(path, "success" if loaded else "fail").add()
            self._load_time.labels(path).add(round(seconds * 1e6))

    def warmup_ended(self, path: str, seconds: float, status: str) -> None:
        """A version's recorded requests were replayed; ``status`` is ``OK`` or the error. Any thread may call."""
        with self._loading:
            self._warmups.labels(path, status).observe(seconds * 1e6)

    def _shown_name(self, name: str) -> str:
        if not name or name in self._unknown_names or self._is_model(name):
            return name
        if len(name) > MAX_UNKNOWN_NAME_LENGTH or len(self._unknown_names) >= MAX_UNKNOWN_NAMES:
            return OTHER_NAMES
        self._unknown_names.add(name)
        return name
