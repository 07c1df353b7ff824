"""What every platform's servable looks like from above: named signatures over tensors."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from pyserving.platforms.dtypes import DType
from pyserving.protos.messages import SignatureDef

Array = np.ndarray

INLINE_SECONDS = 200e-6
"""A run that takes less than this may hold up the event loop: a hop to a thread and back costs about as much."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a signature."""

    name: str
    """The alias that clients use."""
    tensor_name: str
    """The engine's own name, such as ``serving_default_x:0``."""
    dtype: DType
    shape: tuple[int | None, ...] | None
    """None where the rank is unknown; None in it where that dimension is."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Signature:
    """A named function of a model, with named and typed inputs and outputs."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""
    defaults: Mapping[str, Array] = field(default_factory=dict)
    """Values of inputs that a request may leave out."""
    stateless: bool = False
    """A run is known to leave the model as it was, so it does no harm to run it again."""
    writes_state: bool = False
    """A run is known to write what a later one reads, as a variable or a table: copies of the model drift apart."""
    steady: bool = True
    """How long a run takes is told by the size of its inputs. Else it may depend on their values, as the number of
    turns of a loop does, or on something outside; then no run may hold up the event loop."""
    row_wise: bool = False
    """It is proven, or promised by the author of the model, that each row of the outputs is computed from that row of
    the inputs alone, for inputs that have the shapes of ``inputs`` (a vector where it is unknown)."""
    row_wise_promised: bool = False
    """``row_wise`` is what the model's author says: requests are joined also where batching is off."""
    streams: bool = False
    """The answer comes in pieces, each with all outputs, by ``StreamingModel.stream``; ``run`` fails."""


class Model(Protocol):
    """A servable that computes signatures. All methods may be called from any thread, several at once."""

    @property
    def signatures(self) -> Mapping[str, Signature]: ...

    @property
    def signature_defs(self) -> Mapping[str, SignatureDef]:
        """The signatures as GetModelMetadata shows them."""
        ...

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,
    ) -> list[Array]:
        """Computes the named outputs, in that order.

        ``inputs`` holds exactly the inputs of the signature, C-contiguous, strings as object arrays of
        bytes; the model does not keep or change them. The arrays returned own their memory.
        ``timeout`` is in seconds. ``inline`` promises that the run is short: it is done on the calling
        thread, without a time-out. Raises ServingError.
        """
        ...


@runtime_checkable
class GraphModel(Model, Protocol):
    """A model whose whole graph can be run, not its signatures alone."""

    def run_graph(
        self,
        feeds: Mapping[str, Array],
        fetches: Sequence[str],
        targets: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> list[Array]:
        """The tensors ``fetches``, in that order, where those in ``feeds`` have the given values.

        Tensors have the graph's own names, ``operation:index``. Each operation in ``targets`` is run too. ``timeout``
        is in seconds. Raises ServingError.
        """
        ...


@runtime_checkable
class ThreadedModel(Model, Protocol):
    """A model that brings the threads that its runs are to use, for these may wait: for runs of other models, or for
    another process."""

    @property
    def threads(self) -> Executor: ...

    @property
    def concurrency(self) -> int:
        """How many runs go on at the same time."""
        ...

    @property
    def time_limit(self) -> float | None:
        """Seconds after which nobody waits for a run any more, nor for the next piece of a stream."""
        ...


class StreamCancelled(Exception):  # noqa: N818 - nothing went wrong
    """Nobody waits for the rest of a streamed answer."""


class Outlet(Protocol):
    """Where a model puts the pieces of a streamed answer."""

    def put(self, piece: list[Array]) -> None:
        """Hands over one piece: the outputs asked for, in their order. Waits while the client is behind.

        Raises StreamCancelled.
        """
        ...

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """``callback`` is called, on any thread, when nobody waits any more; at once if that is so already."""
        ...


@runtime_checkable
class StreamingModel(ThreadedModel, Protocol):
    """A model with signatures that stream."""

    def stream(self, signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[str], outlet: Outlet) -> None:
        """Puts all pieces into ``outlet`` and returns after the last. Raises ServingError, and StreamCancelled."""
        ...
