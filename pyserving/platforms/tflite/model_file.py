"""What a .tflite file says of itself, as far as serving needs it: tensors, subgraphs, signatures, operations.

The file is a flatbuffer; its tables are those of TensorFlow Lite's schema.fbs.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pyserving.core.errors import ServingError, invalid_argument
from pyserving.platforms.tflite.litert import LiteRT
from pyserving.sources.os_errors import serving_error

_T = TypeVar("_T")

FILE_NAME = "model.tflite"
_IDENTIFIER = b"TFL3"
_SIGNATURES_METADATA = "signature_defs_metadata"


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor of a subgraph."""

    name: str
    type: int
    """A number of the schema's ``TensorType``."""
    shape: tuple[int | None, ...] | None
    """None where the rank is unknown; None in it where that dimension is."""


@dataclass(frozen=True, slots=True)
class SubgraphFacts:
    """A function in the file."""

    tensors: tuple[TensorFacts, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """What the converter wrote of a signature: aliases, and the tensors of its subgraph that they stand for."""

    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file, read."""

    content: bytes
    subgraphs: tuple[SubgraphFacts, ...]
    signatures: Mapping[str, SignatureFacts]
    metadata_signatures: Mapping[str, bytes]
    """Serialized ``SignatureDef`` messages, which TensorFlow Serving reads."""
    custom_ops: tuple[str, ...]
    """Names of the operations that are none of TensorFlow Lite's own."""
    assigns_variables: bool
    """Whether a run changes what a later run sees."""
    has_loops: bool
    """Whether how long a run takes may depend on the values that it is fed."""
    has_variable_tensors: bool
    """Whether there is state that a sequence carries from step to step, such as an LSTM's."""


def read_content(folder: str) -> bytes:
    """The bytes of the model file in ``folder``. Raises NOT_FOUND and what else the system says.

    They are read, not mapped: a file that is overwritten or cut while it is mapped takes the process down.
    """
    path = os.path.join(folder, FILE_NAME)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise serving_error(path, error) from None


def check_header(litert: LiteRT, content: bytes) -> None:
    """Raises INVALID_ARGUMENT for what LiteRT's own check lets through, to crash on it later."""
    if content[4:8] != _IDENTIFIER:
        raise invalid_argument(
            f"expected a TensorFlow Lite file, with {_IDENTIFIER!r} at byte 4, got {len(content)} bytes "
            f"with {content[4:8]!r} there"
        )
    model = _parsed(litert.schema.Model.GetRootAs, content)
    for name in ("OperatorCodes", "Subgraphs", "Buffers"):
        if _parsed(getattr(model, f"{name}IsNone")):
            raise invalid_argument(f"the TensorFlow Lite file is damaged: it has no table {name}")
    if not _parsed(model.SubgraphsLength):
        raise invalid_argument("the TensorFlow Lite file is damaged: it has no subgraph")


def read_model_file(litert: LiteRT, content: bytes) -> ModelFile:
    """``content`` must have passed LiteRT's check. Raises INVALID_ARGUMENT."""
    return _parsed(_read, litert, content)


def count_operators(litert: LiteRT, content: bytes) -> Counter[str]:
    """How often each operation occurs, in all subgraphs, by the schema's name or a custom one's own.

    ``content`` must have passed LiteRT's check. Raises INVALID_ARGUMENT.
    """
    return _parsed(_operators, litert, content)


def _parsed(read: Callable[..., _T], *arguments: Any) -> _T:
    """The flatbuffers package raises whatever it stumbles over, for it does not check what it reads."""
    try:
        return read(*arguments)
    except ServingError:
        raise
    except Exception as error:
        raise invalid_argument(
            f"the TensorFlow Lite file is damaged: {type(error).__name__} while it was read"
        ) from error


def _read(litert: LiteRT, content: bytes) -> ModelFile:
    model = litert.schema.Model.GetRootAs(content)
    tables = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    subgraphs = tuple(_subgraph(table) for table in tables)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    # Numbers up to 127 stand in the old field, which old files have alone.
    builtin = [max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes]
    operators = litert.schema.BuiltinOperator
    if operators.READ_VARIABLE in builtin and operators.ASSIGN_VARIABLE not in builtin:
        # LiteRT would compute with whatever the memory holds.
        raise invalid_argument("the model reads variables that nothing in the file sets: the conversion lost them")
    custom = operators.CUSTOM
    return ModelFile(
        content=content,
        subgraphs=subgraphs,
        signatures=dict(_signatures(model, subgraphs)),
        metadata_signatures=_metadata_signatures(litert, model),
        custom_ops=tuple(
            sorted({_text(code.CustomCode()) for code, number in zip(codes, builtin, strict=True) if number == custom})
        ),
        assigns_variables=_assigns_variables(litert.schema, tables, builtin),
        has_loops=operators.WHILE in builtin or operators.STABLEHLO_WHILE in builtin,
        has_variable_tensors=any(
            table.Tensors(i).IsVariable() for table in tables for i in range(table.TensorsLength())
        ),
    )


def _operators(litert: LiteRT, content: bytes) -> Counter[str]:
    operators = litert.schema.BuiltinOperator
    names = {number: name for name, number in vars(operators).items() if isinstance(number, int)}
    model = litert.schema.Model.GetRootAs(content)
    codes = []
    for code in (model.OperatorCodes(i) for i in range(model.OperatorCodesLength())):
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        codes.append(_text(code.CustomCode()) if number == operators.CUSTOM else names.get(number, f"number {number}"))
    found: Counter[str] = Counter()
    for table in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for i in range(table.OperatorsLength()):
            found[codes[_index(table.Operators(i).OpcodeIndex(), codes)]] += 1
    return found


def _subgraph(table: Any) -> SubgraphFacts:
    tensors = tuple(_tensor(table.Tensors(i)) for i in range(table.TensorsLength()))
    return SubgraphFacts(
        tensors,
        tuple(_index(table.Inputs(i), tensors) for i in range(table.InputsLength())),
        tuple(_index(table.Outputs(i), tensors) for i in range(table.OutputsLength())),
    )


def _tensor(table: Any) -> TensorFacts:
    shape: tuple[int | None, ...] | None = tuple(table.Shape(i) for i in range(table.ShapeLength()))
    if table.ShapeSignatureLength():
        signature = [table.ShapeSignature(i) for i in range(table.ShapeSignatureLength())]
        shape = tuple(None if size < 0 else size for size in signature)
    elif not shape and not table.HasRank():
        shape = None
    return TensorFacts(_text(table.Name()), table.Type(), shape)


def _signatures(model: Any, subgraphs: tuple[SubgraphFacts, ...]) -> Iterator[tuple[str, SignatureFacts]]:
    for table in (model.SignatureDefs(i) for i in range(model.SignatureDefsLength())):
        subgraph = _index(table.SubgraphIndex(), subgraphs)
        tensors = subgraphs[subgraph].tensors
        maps = (
            {_text(entry.Name()): _index(entry.TensorIndex(), tensors) for entry in map(get, range(length()))}
            for get, length in ((table.Inputs, table.InputsLength), (table.Outputs, table.OutputsLength))
        )
        yield _text(table.SignatureKey()), SignatureFacts(subgraph, *maps)


def _metadata_signatures(litert: LiteRT, model: Any) -> dict[str, bytes]:
    for entry in (model.Metadata(i) for i in range(model.MetadataLength())):
        if _text(entry.Name()) == _SIGNATURES_METADATA:
            number = entry.Buffer()
            if not 0 <= number < model.BuffersLength():
                raise invalid_argument(f"the TensorFlow Lite file is damaged: its signatures are in buffer {number}")
            signatures = litert.flexbuffers.GetRoot(model.Buffers(number).DataAsNumpy().tobytes()).AsMap
            return {
                key.AsKey: bytes(value.AsStringBytes)
                for key, value in zip(signatures.Keys, signatures.Values, strict=True)
            }
    return {}


def _assigns_variables(schema: Any, tables: list[Any], builtin: list[int]) -> bool:
    """Whether there is an assignment outside of the subgraphs that only set variables up, once."""
    assigning, initial = set(), set()
    for number, table in enumerate(tables):
        for operator in (table.Operators(i) for i in range(table.OperatorsLength())):
            code = builtin[_index(operator.OpcodeIndex(), builtin)]
            if code == schema.BuiltinOperator.ASSIGN_VARIABLE:
                assigning.add(number)
            elif code == schema.BuiltinOperator.CALL_ONCE:
                options = operator.BuiltinOptions()
                call = schema.CallOnceOptions()
                call.Init(options.Bytes, options.Pos)
                initial.add(call.InitSubgraphIndex())
    return bool(assigning - initial)


def _index(index: int, within: Any) -> int:
    if not 0 <= index < len(within):
        raise invalid_argument(f"the TensorFlow Lite file is damaged: index {index} of {len(within)}")
    return index


def _text(name: bytes | None) -> str:
    return (name or b"").decode()
