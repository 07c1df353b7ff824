"""What is recorded of requests and loads, under the names that TensorFlow Serving gave them.

Times come in seconds and are kept in microseconds. Everything but loads and warmups is recorded on the event loop.
"""

from collections.abc import Callable, Sequence
from threading import Lock

from pyserving.monitoring.metrics import Counter, Family, Histogram, Registry, exponential_bounds

MAX_UNKNOWN_NAMES = 100
"""So many model names that no model has are shown: a client could invent them for ever, and each takes memory."""
MAX_UNKNOWN_NAME_LENGTH = 128
OTHER_NAMES = "(other)"
"""In place of those beyond."""
MAX_PATHS = 1000
"""So many folders that versions were loaded from are shown, the latest ones: new versions come for ever."""

FULL = 256
"""So many times lie in a Recorder's list at most, for each model."""

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
        self._queuing_latency = add(
            Histogram(
                serving + "batching_session:queuing_latency", ["thread_pool_name"], exponential_bounds(100, 1.2, 52)
            )
        )
        self._batch_requests = add(
            Histogram("pyserving_batch_requests", ["thread_pool_name"], exponential_bounds(1, 2, 11))
        )
        self._loads = add(Counter(":tensorflow:cc:saved_model:load_attempt_count", ["model_path", "status"]))
        self._load_time = add(Counter(":tensorflow:cc:saved_model:load_latency", ["model_path"]))

        self._recorders: list[Recorder] = []
        self._is_model = is_model
        self._unknown_names: set[str] = set()
        self._paths: dict[str, None] = {}
        """Folders, those last that were loaded from last."""
        self._loading = Lock()

    def collect(self) -> list[Family]:
        """All metrics as they are now."""
        for recorder in self._recorders:
            recorder.flush()
        return self.registry.collect()

    def answers(self, api: str, entrypoint: str) -> "Recorder":
        """Takes the requests that succeed, each from its being read to its answer's being written.

        The model name is empty where no model was asked for.
        ``api`` and ``entrypoint`` are ``predict`` and ``REST``, ``Predict`` and ``GRPC``, and so on; ``api`` is empty
        for REST requests that ask no model to compute.
        """

        def record(model_name: str, micros: Sequence[float]) -> None:
            self._requests.labels(model_name, "OK").add(len(micros))
            self._latency.labels(model_name, api, entrypoint).observe(*micros)

        return self._new_recorder(record)

    def runs(self, api: str) -> "Recorder":
        """Takes how long requests wait for their results, in line and for the engine. ``api``: as over gRPC.

        TensorFlow Serving says TF1 of all that it runs in a session, TF2's SavedModels and TFLite included.
        """
        return self._new_recorder(lambda name, micros: self._runtime.labels(name, api, "TF1").observe(*micros))

    def _new_recorder(self, record: Callable[[str, Sequence[float]], None]) -> "Recorder":
        recorder = Recorder(record)
        self._recorders.append(recorder)
        return recorder

    def request_failed(self, model_name: str, status: str) -> None:
        """``model_name`` is what the client sent; ``status`` the name of the code: ``NOT_FOUND``."""
        self._requests.labels(self._shown_name(model_name), status).add()

    def examples_computed(self, model_name: str, count: int) -> None:
        """One request held so many examples."""
        self._example_counts.labels(model_name).observe(count)
        self._examples.labels(model_name).add(count)

    def requests_waited(self, thread_pool_name: str, micros: Sequence[float]) -> None:
        """The requests of one batch waited so many microseconds for it to begin."""
        self._queuing_latency.labels(thread_pool_name).observe(*micros)
        self._batch_requests.labels(thread_pool_name).observe(len(micros))

    def load_ended(self, path: str, seconds: float, *, loaded: bool) -> None:
        """An attempt to load the version in the folder ``path``. Any thread may call."""
        with self._loading:
            self._loads.labels(path, "success" if loaded else "fail").add()
            self._load_time.labels(path).add(round(seconds * 1e6))
            self._forget_paths_before(path)

    def warmup_ended(self, path: str, seconds: float, status: str) -> None:
        """A version's recorded requests were replayed; ``status`` is ``OK`` or the error. Any thread may call."""
        with self._loading:
            self._warmups.labels(path, status).observe(seconds * 1e6)

    def _forget_paths_before(self, path: str) -> None:
        self._paths.pop(path, None)
        self._paths[path] = None
        if len(self._paths) > MAX_PATHS:
            oldest = next(iter(self._paths))
            del self._paths[oldest]
            for metric in (self._loads, self._load_time, self._warmups):
                metric.forget(oldest)

    def _shown_name(self, name: str) -> str:
        if not name or name in self._unknown_names or self._is_model(name):
            return name
        if len(name) > MAX_UNKNOWN_NAME_LENGTH or len(self._unknown_names) >= MAX_UNKNOWN_NAMES:
            return OTHER_NAMES
        self._unknown_names.add(name)
        return name


class Recorder(dict[str, list[float]]):
    """By model name: how many seconds each request to one method, or each run for it, took.

    To be appended to, and to be flushed once a list is FULL. Between an engine call and a write to a socket all code
    is cold, so on the way of a request there is as little of it as can be, and no call; the rest is done for many at
    a time.
    """

    def __init__(self, record: Callable[[str, Sequence[float]], None]) -> None:
        """``record`` takes a model's name, and times in microseconds."""
        super().__init__()
        self._record = record

    def __missing__(self, model_name: str) -> list[float]:
        seconds = self[model_name] = []
        return seconds

    def add(self, model_name: str, seconds: float) -> None:
        """Appends, and flushes where that is due: for what is not on the way of most requests."""
        recorded = self[model_name]
        recorded.append(seconds)
        if len(recorded) >= FULL:
            self.flush()

    def flush(self) -> None:
        """Puts what was appended into the metrics."""
        for model_name, seconds in self.items():
            if seconds:
                self._record(model_name, [value * 1e6 for value in seconds])
                seconds.clear()
