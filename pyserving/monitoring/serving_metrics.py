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
        self._loading = Lock()

    def answers(self, api: str, entrypoint: str) -> "Answers":
        """To be kept. ``api`` and ``entrypoint`` are ``predict`` and ``REST``, ``Predict`` and ``GRPC``, and so on;
        ``api`` is empty for REST requests that ask no model to compute.
        """
        return Answers(self._requests, self._latency, api, entrypoint)

    def runs(self, api: str) -> "Runs":
        """To be kept. ``api``: as over gRPC."""
        return Runs(self._runtime, api)

    def request_failed(self, model_name: str, status: str) -> None:
        """``model_name`` is what the client sent; ``status`` the name of the code: ``NOT_FOUND``."""
        self._requests.labels(self._shown_name(model_name), status).add()

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


class Answers:
    """Records the requests to one method that succeeded."""

    __slots__ = ("_children", "_labels", "_latency", "_requests")

    def __init__(self, requests: Counter, latency: Histogram, api: str, entrypoint: str) -> None:
        self._requests = requests
        self._latency = latency
        self._labels = api, entrypoint
        self._children: dict[str, tuple[CounterChild, HistogramChild]] = {}

    def add(self, model_name: str, seconds: float) -> None:
        """``seconds``: from the request's being read to its answer's being written."""
        children = self._children.get(model_name)
        if children is None:
            children = self._children[model_name] = (
                self._requests.labels(model_name, "OK"),
                self._latency.labels(model_name, *self._labels),
            )
        children[0].value += 1
        children[1].observe(seconds * 1e6)


class Runs:
    """Records the engine calls of one method that succeeded."""

    __slots__ = ("_api", "_children", "_runtime")

    def __init__(self, runtime: Histogram, api: str) -> None:
        self._runtime = runtime
        self._api = api
        self._children: dict[str, HistogramChild] = {}

    def add(self, model_name: str, seconds: float) -> None:
        """``seconds``: what the request waited for its result, the time in line included."""
        child = self._children.get(model_name)
        if child is None:
            # TensorFlow Serving says TF1 of all that it runs in a session, TF2's SavedModels and TFLite included.
            child = self._children[model_name] = self._runtime.labels(model_name, self._api, "TF1")
        child.observe(seconds * 1e6)
