"""How requests are joined into batches: what may be chosen, and TensorFlow Serving's parameters."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from weakref import WeakKeyDictionary

from pyserving.core.errors import invalid_argument
from pyserving.core.loader import Loader
from pyserving.core.resources import Resources
from pyserving.platforms.model import Model
from pyserving.protos import messages
from pyserving.sources.text_proto import read_text_proto

PER_MODEL_FILE = "batching_params.pbtxt"
"""In a version folder: the parameters of that version."""


class Batching(Enum):
    """Ways to batch that need no parameters."""

    OFF = "off"
    """Every request is run by itself."""
    AUTOMATIC = "automatic"
    """What arrives while an engine call runs forms the next batch, of signatures whose rows are independent.

    Only where the platform has proven that of the graph, or the author of the model promises it.
    """


@dataclass(frozen=True, slots=True)
class BatchingParameters:
    """TensorFlow Serving's ``BatchingParameters``; defaults and checks are those of its shared_batch_scheduler.h."""

    max_batch_size: int = 1000
    """Rows of the largest request, and of the largest batch unless large requests are split."""
    batch_timeout_micros: int = 0
    """How long a request may wait for others before its batch is run, if a thread is free."""
    max_enqueued_batches: int = 10
    """Batches that may wait, for each kind of request."""
    num_batch_threads: int = os.cpu_count() or 1
    """Batches that may run at the same time, those of all models counted."""
    allowed_batch_sizes: tuple[int, ...] = ()
    """A batch is padded with copies of a row to the next of these; empty: never padded."""
    pad_variable_length_inputs: bool = False
    """Join inputs whose other dimensions differ: they are padded to the largest."""
    enable_large_batch_splitting: bool = False
    """Spread a request over several batches where it does not fit into one."""
    max_execution_batch_size: int = 1000
    """Rows of the largest batch; the same as ``max_batch_size`` unless large requests are split."""

    def allowed_size(self, rows: int) -> int:
        """How many rows are run where ``rows`` were joined."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


Policy = Batching | BatchingParameters


def parameters_from_proto(proto: messages.BatchingParameters) -> BatchingParameters:
    """Raises INVALID_ARGUMENT, with TensorFlow Serving's texts, for values that cannot be."""
    defaults = BatchingParameters()

    def value(name: str) -> int:
        given: int = getattr(proto, name).value if proto.HasField(name) else getattr(defaults, name)
        return given

    splitting = proto.enable_large_batch_splitting.value
    max_batch_size, max_enqueued_batches = value("max_batch_size"), value("max_enqueued_batches")
    parameters = BatchingParameters(
        max_batch_size=max_batch_size,
        batch_timeout_micros=value("batch_timeout_micros"),
        max_enqueued_batches=max_enqueued_batches if splitting else max_enqueued_batches or 1,
        num_batch_threads=value("num_batch_threads"),
        allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
        pad_variable_length_inputs=proto.pad_variable_length_inputs,
        enable_large_batch_splitting=splitting,
        max_execution_batch_size=(
            proto.max_execution_batch_size.value
            if splitting and proto.HasField("max_execution_batch_size")
            else max_batch_size
        ),
    )
    _check(parameters)
    return parameters


def _check(parameters: BatchingParameters) -> None:
    for name, what in (
        ("num_batch_threads", "num_batch_threads"),
        ("max_batch_size", "input_batch_size_limit"),
        ("max_enqueued_batches", "max_enqueued_batches"),
        ("max_execution_batch_size", "max_execution_batch_size"),
    ):
        if (given := getattr(parameters, name)) < 1:
            raise invalid_argument(f"{what} must be positive; was {given}")
    if parameters.batch_timeout_micros < 0:
        raise invalid_argument(f"batch_timeout_micros must be non-negative; was {parameters.batch_timeout_micros}")
    if parameters.max_batch_size < parameters.max_execution_batch_size:
        raise invalid_argument(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            f"max_execution_batch_size. Got {parameters.max_batch_size} and {parameters.max_execution_batch_size}"
        )
    sizes = parameters.allowed_batch_sizes
    if not sizes:
        return
    if any(size <= before for before, size in zip((0, *sizes), sizes, strict=False)):
        raise invalid_argument("allowed_batch_sizes entries must be monotonically increasing")
    if sizes[-1] != parameters.max_execution_batch_size:
        wanted = (
            "be equal to max_execution_batch_size"
            if parameters.enable_large_batch_splitting
            else "match max_batch_size"
        )
        raise invalid_argument(
            f"Last entry in allowed_batch_sizes must {wanted}; last entry was {sizes[-1]}; "
            f"expected {parameters.max_execution_batch_size}"
        )


def read_parameters_file(path: str) -> BatchingParameters:
    """The parameters in a text format file. Raises ServingError."""
    return parameters_from_proto(read_text_proto(path, messages.BatchingParameters))


class BatchingPolicies:
    """Which model is batched how."""

    def __init__(self, default: Policy = Batching.OFF, never_automatic: Collection[str] = ()) -> None:
        """``never_automatic``: names of models that are not batched where ``default`` is AUTOMATIC."""
        self.default = default
        self._never_automatic = frozenset(never_automatic)
        self._own: WeakKeyDictionary[Model, Policy] = WeakKeyDictionary()

    @property
    def num_batch_threads(self) -> int:
        """All models share these threads, so parameters of one model's own do not count."""
        if isinstance(self.default, BatchingParameters):
            return self.default.num_batch_threads
        return BatchingParameters().num_batch_threads

    def of(self, model: Model, name: str) -> Policy:
        """Of a model that is served under ``name``."""
        policy = self._own.get(model, self.default)
        return Batching.OFF if policy is Batching.AUTOMATIC and name in self._never_automatic else policy

    def assign(self, model: Model, policy: Policy) -> None:
        self._own[model] = policy


class PerModelBatchingLoader:
    """A ``Loader`` that also reads the version's own parameters; a version without them is not batched.

    A file that is wrong makes the load fail.
    """

    def __init__(self, loader: Loader, path: str, policies: BatchingPolicies) -> None:
        self._loader = loader
        self._file = os.path.join(path, PER_MODEL_FILE)
        self._policies = policies

    def estimate_resources(self) -> Resources:
        return self._loader.estimate_resources()

    def load(self) -> Model:
        policy: Policy = read_parameters_file(self._file) if os.path.exists(self._file) else Batching.OFF
        model: Model = self._loader.load()  # type: ignore[assignment]  # what is batched is a model
        self._policies.assign(model, policy)
        return model

    def unload(self) -> None:
        self._loader.unload()
