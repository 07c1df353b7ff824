"""What there is to say of a version: plain values, for people to read and for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Signature, TensorSpec

DENSE = "dense"


@dataclass(frozen=True, slots=True)
class TensorDescription:
    """One input or output of a signature."""

    dtype: str
    """Numpy's name, such as ``float32``; ``string``; TensorFlow's own for what numpy has not."""
    shape: tuple[int, ...] | None
    """None where the rank is unknown; -1 in it where that size is."""
    tensor_name: str
    encoding: str = DENSE
    """``dense``; ``sparse`` and ``composite`` ones can be neither fed nor fetched."""
    optional: bool = False
    """An input that a request may leave out, for it has a default value."""


@dataclass(frozen=True, slots=True)
class SignatureDescription:
    """A named function."""

    inputs: Mapping[str, TensorDescription]
    outputs: Mapping[str, TensorDescription]
    method_name: str = ""
    streams: bool = False


@dataclass(frozen=True, slots=True)
class GraphDescription:
    """One graph of the version with its signatures. Only a SavedModel may have several, told apart by their tags."""

    signatures: Mapping[str, SignatureDescription]
    tags: Sequence[str] = ()
    ops: Mapping[str, int] | None = None
    """How often each operation occurs, those in functions included; None where the format does not tell."""
    not_registered: Sequence[str] | None = None
    """Operations that the engine does not have of its own; None where there is no engine to ask."""
    functions: Sequence[str] = ()
    assets: Sequence[str] = ()
    producer: str = ""
    """The version of what wrote it."""


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables of all graphs."""

    count: int
    elements: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Description:
    """A version."""

    path: str
    platform: str
    size_bytes: int | None
    """Of all files; None where the version lies on another machine."""
    graphs: Sequence[GraphDescription]
    variables: Variables | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    warmup_records: int | None = None
    """None where it has no file with recorded requests."""


def to_json(description: Description) -> dict[str, Any]:
    """As values of JSON."""
    return asdict(description)


def dtype_name(dtype: DType) -> str:
    """Such as ``float32``."""
    known = NUMPY_OF.get(dtype)
    return dtype.text if known is None or dtype is DType.STRING or known.names else known.name


def describe_signature(signature: Signature) -> SignatureDescription:
    """What a loaded model, of whatever platform, says of it."""

    def describe(spec: TensorSpec) -> TensorDescription:
        shape = None if spec.shape is None else tuple(-1 if size is None else size for size in spec.shape)
        optional = spec.name in signature.defaults
        return TensorDescription(dtype_name(spec.dtype), shape, spec.tensor_name, optional=optional)

    return SignatureDescription(
        {name: describe(spec) for name, spec in signature.inputs.items()},
        {name: describe(spec) for name, spec in signature.outputs.items()},
        signature.method_name,
        signature.streams,
    )
