"""Inference requests and answers of the Open Inference Protocol over gRPC: ModelInferRequest and ModelInferResponse.

Values lie in the fields of their type (``contents``), or, of all tensors, as raw bytes in ``raw_input_contents``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pyserving.core.errors import invalid_argument
from pyserving.core.servable import ServableId
from pyserving.platforms.dtypes import DTYPE_OF, NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.wire.oip_request import (
    InferRequest,
    WantedOutput,
    check_not_there,
    check_parameters,
    check_tensor_parameters,
)
from pyserving.wire.oip_tensors import (
    DATATYPES,
    Parameter,
    TensorHead,
    output_datatype,
    read_raw,
    string_array,
    tensor_head,
    write_raw,
)
from pyserving.wire.tensor_proto import varint
from pyserving.wire.wire_format import BYTES, fields

_LONG = 64 << 10
"""Bytes of a message from which on raw values are read where they lie."""
_RAW_INPUT_CONTENTS = 7
_RAW_OUTPUT_TAG = b"\x32"  # raw_output_contents = 6

_CONTENTS: dict[DType, str] = {
    DType.BOOL: "bool_contents",
    **dict.fromkeys((DType.INT8, DType.INT16, DType.INT32), "int_contents"),
    DType.INT64: "int64_contents",
    **dict.fromkeys((DType.UINT8, DType.UINT16, DType.UINT32), "uint_contents"),
    DType.UINT64: "uint64_contents",
    DType.FLOAT: "fp32_contents",
    DType.DOUBLE: "fp64_contents",
    DType.STRING: "bytes_contents",
}
"""The field of InferTensorContents for each dtype. FP16 and BF16 have none."""


class LiftedRequest(NamedTuple):
    """A serialized ModelInferRequest, and the raw values that were taken out of it."""

    rest: bytes
    raw: Sequence[memoryview]


def lift_raw_contents(data: bytes) -> LiftedRequest:
    """Takes ``raw_input_contents`` out of a long message, so that protobuf copies none of it. What is no message is
    left for protobuf to refuse."""
    if len(data) < _LONG:
        return LiftedRequest(data, ())
    view = memoryview(data)
    parts: list[memoryview] = []
    raw: list[memoryview] = []
    at = 0
    try:
        for number, kind, start, end in fields(data, 0, len(data)):
            if number == _RAW_INPUT_CONTENTS and kind == BYTES:
                raw.append(view[start:end])
            else:
                parts.append(view[at:end])
            at = end
    except ValueError:
        return LiftedRequest(data, ())
    return LiftedRequest(b"".join(parts), raw) if raw else LiftedRequest(data, ())


def read_infer(message: messages.ModelInferRequest, lifted: Sequence[memoryview] = ()) -> InferRequest:
    """The request in ``message``; ``lifted``: the raw values that were taken out of it.

    Raises INVALID_ARGUMENT; UNIMPLEMENTED for what is not supported.
    """
    parameters = _read_parameters(message.parameters)
    check_parameters(parameters)
    raw: Sequence[bytes | memoryview] = lifted or message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise invalid_argument(
            f"Expected raw_input_contents for each of the {len(message.inputs)} inputs, got {len(raw)}"
        )
    inputs: dict[str, Array] = {}
    for position, item in enumerate(message.inputs):
        check_tensor_parameters(f"input {item.name}", item.parameters)
        head = tensor_head(item.name, item.datatype, item.shape)
        check_not_there(item.name, inputs)
        if not raw:
            inputs[item.name] = _read_contents(head, item.contents)
            continue
        if item.HasField("contents"):
            raise invalid_argument(f"input {item.name}: expected contents or raw_input_contents, got both")
        inputs[item.name] = read_raw(head, raw[position])
    for output in message.outputs:
        check_tensor_parameters(f"output {output.name}", output.parameters)
    outputs = [WantedOutput(output.name) for output in message.outputs]
    return InferRequest(message.id, parameters, inputs, outputs, typed=not raw and bool(message.inputs))


def write_infer(
    servable: ServableId, request: InferRequest, results: Mapping[str, Array], parameters: Mapping[str, Parameter] = {}
) -> list[bytes | memoryview]:
    """A serialized ModelInferResponse, in parts. Raises UNIMPLEMENTED for what the protocol cannot carry.

    Values come as the request's came, but raw where one of them has no field of its type.
    """
    response = messages.ModelInferResponse(model_name=servable.name, model_version=str(servable.version), id=request.id)
    for key, value in parameters.items():
        _write_parameter(response.parameters[key], value)
    typed = request.typed and all(DTYPE_OF[array.dtype] in _CONTENTS for array in results.values())
    raws: list[bytes | memoryview] = []
    for name, array in results.items():
        output = response.outputs.add(name=name, datatype=output_datatype(name, array), shape=array.shape)
        if typed:
            getattr(output.contents, _CONTENTS[DTYPE_OF[array.dtype]]).extend(array.ravel().tolist())
        else:
            raw = write_raw(array)
            raws += (_RAW_OUTPUT_TAG + varint(len(raw)), raw)
    return [response.SerializeToString(), *raws]


def _read_contents(head: TensorHead, contents: messages.InferTensorContents) -> Array:
    what = f"input {head.name}"
    field = _CONTENTS.get(head.dtype)
    if field is None:
        raise invalid_argument(f"{what}: expected {DATATYPES[head.dtype]} in raw_input_contents, got none")
    if others := [described.name for described, _ in contents.ListFields() if described.name != field]:
        raise invalid_argument(f"{what}: expected {DATATYPES[head.dtype]} in {field}, got {', '.join(others)}")
    values = getattr(contents, field)
    if len(values) != head.size:
        raise invalid_argument(
            f"{what}: expected {head.size} values in {field} for shape {list(head.shape)}, got {len(values)}"
        )
    if head.dtype == DType.STRING:
        return string_array(head, values)
    dtype = NUMPY_OF[head.dtype]
    if dtype.kind in "iu" and dtype.itemsize < 4 and values:
        limits = np.iinfo(dtype)
        for value in (min(values), max(values)):
            if not limits.min <= value <= limits.max:
                raise invalid_argument(
                    f"{what}: expected values of {DATATYPES[head.dtype]}, of which {value} is out of range"
                )
    return np.fromiter(values, dtype, len(values)).reshape(head.shape)


def _read_parameters(given: Mapping[str, messages.InferParameter]) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for name, value in given.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is not None:
            parameters[name] = getattr(value, choice)
    return parameters


def _write_parameter(target: messages.InferParameter, value: Parameter) -> None:
    match value:
        case bool():
            target.bool_param = value
        case int():
            target.int64_param = value
        case float():
            target.double_param = value
        case str():
            target.string_param = value
