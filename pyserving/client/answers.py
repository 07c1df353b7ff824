"""What calls return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from google.protobuf.json_format import ParseDict, ParseError

from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Array, TensorSpec
from pyserving.protos.messages import POOL, SignatureDef, TensorInfo


class Prediction(dict[str, Array]):
    """The outputs by name. Strings are object arrays of bytes."""

    __slots__ = ("version",)

    def __init__(self, outputs: Mapping[str, Array], version: int | None) -> None:
        super().__init__(outputs)
        self.version = version
        """That computed it; None where the server does not say (REST)."""


class Class(NamedTuple):
    """One class of a classification."""

    label: str
    score: float


class VersionStatus(NamedTuple):
    """The state of one version of a model."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    error_code: str
    """OK where nothing went wrong."""
    error_message: str


@dataclass(frozen=True, slots=True)
class SignatureSpec:
    """A named function of a model, as its server describes it."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """The signatures of one version."""

    name: str
    version: int
    signatures: Mapping[str, SignatureSpec]
    definitions: Mapping[str, SignatureDef] = field(repr=False, compare=False)
    """The same as the messages that came."""


def read_metadata(name: str, version: int, definitions: Mapping[str, SignatureDef]) -> ModelMetadata:
    """Makes signatures of messages; what is no operation of the graph but a saver's note is left out."""
    signatures = {
        key: SignatureSpec(key, _specs(definition.inputs), _specs(definition.outputs), definition.method_name)
        for key, definition in definitions.items()
        if not key.startswith("__saved_model")
    }
    return ModelMetadata(name, version, signatures, definitions)


def definition_of(document: dict[str, Any]) -> SignatureDef:
    """A SignatureDef from its JSON. Raises ValueError."""
    definition = SignatureDef()
    try:
        ParseDict(document, definition, ignore_unknown_fields=True, descriptor_pool=POOL)
    except ParseError as error:
        raise ValueError(str(error)) from None
    return definition


def _specs(infos: Mapping[str, TensorInfo]) -> dict[str, TensorSpec]:
    return {alias: _spec(alias, info) for alias, info in infos.items()}


def _spec(alias: str, info: TensorInfo) -> TensorSpec:
    shape = info.tensor_shape
    sizes = tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    try:
        dtype = DType(info.dtype)
    except ValueError:  # newer than we are
        dtype = DType.INVALID
    return TensorSpec(alias, info.name, dtype, None if shape.unknown_rank else sizes)
