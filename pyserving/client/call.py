"""One request, made of bytes, and how to read its answer: what codecs hand to connections."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from pyserving.client.answers import Class, ModelMetadata, Prediction, SignatureSpec, VersionStatus
from pyserving.platforms.model import Array
from pyserving.protos.messages import Example, ModelServerConfig

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class ModelSpec(NamedTuple):
    """Which version of which model; neither number nor label: the server's choice."""

    name: str
    version: int | None = None
    label: str | None = None


class Task(NamedTuple):
    """A part of a MultiInference."""

    method: str
    """``classify`` or ``regress``."""
    signature: str


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """``read`` takes the body of a good answer, or of each piece of a streamed one. It raises ServingError."""

    path: str
    body: bytes
    read: Callable[[bytes], T_co]
    headers: Sequence[tuple[str, str]] = ()


class Codec(Protocol):
    """Makes the calls of one protocol. Raises NotOffered for what it has not got."""

    def predict(
        self,
        spec: ModelSpec,
        signature: SignatureSpec,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        streamed: bool = False,
    ) -> Call[Prediction]: ...
    def classify(self, spec: ModelSpec, signature: str, examples: Sequence[Example]) -> Call[list[list[Class]]]: ...
    def regress(self, spec: ModelSpec, signature: str, examples: Sequence[Example]) -> Call[Array]: ...
    def multi_inference(
        self, spec: ModelSpec, tasks: Sequence[Task], examples: Sequence[Example]
    ) -> Call[list[list[list[Class]] | Array]]: ...
    def metadata(self, spec: ModelSpec) -> Call[ModelMetadata]: ...
    def status(self, spec: ModelSpec) -> Call[list[VersionStatus]]: ...
    def models(self) -> Call[dict[str, list[VersionStatus]]]: ...
    def reload(self, config: ModelServerConfig) -> Call[None]: ...
    def ready(self) -> Call[bool]: ...


class Connection(Protocol):
    """The way to one server. Used on one event loop."""

    async def ask(self, call: Call[T], timeout: float) -> T:
        """Raises Unreachable, the server's ServingError, or DEADLINE_EXCEEDED after ``timeout`` seconds."""
        ...

    def stream(self, call: Call[T], timeout: float) -> AsyncGenerator[T, None]:
        """The pieces of an answer, as they come. Raises as ``ask``."""
        ...

    async def close(self) -> None: ...
