"""Inference requests and answers of the Open Inference Protocol over REST: JSON, after which raw values may follow.

The header ``Inference-Header-Content-Length`` says how many bytes of a body are JSON. An input whose parameters have
``binary_data_size`` has so many bytes after it, in the order of the inputs; answers are written in the same way.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from pyserving.core.errors import invalid_argument
from pyserving.core.servable import ServableId
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array
from pyserving.wire.json_request import parse_object
from pyserving.wire.json_tensors import NotPlainError, leaves_of
from pyserving.wire.json_writer import array_text
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

_KINDS: dict[DType, frozenset[type]] = {
    **dict.fromkeys(DATATYPES, frozenset((int,))),
    **dict.fromkeys((DType.HALF, DType.BFLOAT16, DType.FLOAT, DType.DOUBLE), frozenset((int, float))),
    DType.BOOL: frozenset((bool,)),
    DType.STRING: frozenset((str,)),
}
"""The Python types that JSON values of each dtype have."""

_WRITTEN_AS = {NUMPY_OF[DType.UINT16]: np.dtype(np.uint32), NUMPY_OF[DType.BFLOAT16]: np.dtype(np.float32)}
"""Dtypes that are written as another that holds the same values."""


class Body(NamedTuple):
    """An answer's body."""

    parts: Sequence[bytes | memoryview]
    json_size: int
    """Bytes of it that are JSON; what follows is raw."""


def parse_infer(body: bytes, json_size: int | None) -> InferRequest:
    """The request in ``body``, the first ``json_size`` bytes of which are JSON; None: all.

    Tensors that came as raw bytes are views of ``body``. Raises INVALID_ARGUMENT; UNIMPLEMENTED for what is not
    supported.
    """
    raw = memoryview(b"")
    if json_size is not None:
        if not 0 <= json_size <= len(body):
            raise invalid_argument(
                f"Expected an Inference-Header-Content-Length of at most {len(body)}, the body's bytes; got {json_size}"
            )
        raw = memoryview(body)[json_size:]
    document = parse_object(body if json_size is None else body[:json_size])
    parameters = _parameters(document, "the request")
    check_parameters(parameters)
    inputs: dict[str, Array] = {}
    at = 0
    for item in _objects(document, "inputs"):
        head, size, data = _read_input(item)
        check_not_there(head.name, inputs)
        if size is None:
            inputs[head.name] = _read_values(head, data)
            continue
        if at + size > len(raw):
            raise invalid_argument(
                f"input {head.name}: expected {size} bytes of binary data after the JSON, got {len(raw) - at}"
            )
        inputs[head.name] = read_raw(head, raw[at : at + size])
        at += size
    if at != len(raw):
        raise invalid_argument(f"Expected {at} bytes of binary data after the JSON, got {len(raw)}")
    binary = _flag(parameters, "binary_data_output", "the request", default=False)
    outputs = [_read_output(item, binary) for item in _objects(document, "outputs")]
    return InferRequest(_text(document, "id", "the request", ""), parameters, inputs, outputs, binary)


def write_infer(
    servable: ServableId, request: InferRequest, results: Mapping[str, Array], parameters: Mapping[str, Parameter] = {}
) -> Body:
    """The answer: ``results`` as the request wants them. Raises UNIMPLEMENTED and INVALID_ARGUMENT for what JSON or
    the protocol cannot carry."""
    binary = {output.name for output in request.outputs if output.binary}
    if not request.outputs and request.binary:
        binary = set(results)
    head: dict[str, object] = {"model_name": servable.name, "model_version": str(servable.version)}
    if request.id:
        head["id"] = request.id
    if parameters:
        head["parameters"] = dict(parameters)
    parts: list[bytes | memoryview] = [orjson.dumps(head)[:-1], b',"outputs":[']
    raws: list[bytes | memoryview] = []
    for position, (name, array) in enumerate(results.items()):
        described: dict[str, object] = {
            "name": name,
            "datatype": output_datatype(name, array),
            "shape": list(array.shape),
        }
        if position:
            parts.append(b",")
        if name in binary:
            raw = write_raw(array)
            raws.append(raw)
            parts.append(orjson.dumps(described | {"parameters": {"binary_data_size": len(raw)}}))
        else:
            parts += (orjson.dumps(described)[:-1], b',"data":', _data_text(name, array), b"}")
    parts.append(b"]}")
    return Body([*parts, *raws], sum(map(len, parts)))


def _read_input(item: Mapping[str, Any]) -> tuple[TensorHead, int | None, object]:
    """What is said of an input, the bytes that it has after the JSON, and else its values."""
    name = _text(item, "name", "an input")
    what = f"input {name}"
    shape = item.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise invalid_argument(f"{what}: expected shape to be a list of whole numbers, got {_shown(shape)}")
    head = tensor_head(name, _text(item, "datatype", what), shape)
    parameters = _parameters(item, what)
    check_tensor_parameters(what, parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in item:
            raise invalid_argument(f"{what}: expected data, or binary_data_size in its parameters; got neither")
        return head, None, item["data"]
    if type(size) is not int or size < 0:
        raise invalid_argument(f"{what}: expected binary_data_size to be a number of bytes, got {_shown(size)}")
    if "data" in item:
        raise invalid_argument(f"{what}: expected data or binary_data_size, got both")
    return head, size, None


def _read_output(item: Mapping[str, Any], binary: bool) -> WantedOutput:
    name = _text(item, "name", "an output")
    parameters = _parameters(item, f"output {name}")
    check_tensor_parameters(f"output {name}", parameters)
    return WantedOutput(name, _flag(parameters, "binary_data", f"output {name}", default=binary))


def _read_values(head: TensorHead, data: object) -> Array:
    """Values in JSON: flat, or nested in lists as the shape says."""
    what = f"input {head.name}"
    datatype = DATATYPES[head.dtype]
    if not isinstance(data, list):
        raise invalid_argument(f"{what}: expected data to be a list, got {_shown(data)}")
    try:
        leaves, shape, kinds = leaves_of(data)
    except NotPlainError:
        raise invalid_argument(f"{what}: expected lists of one length at each level of data, got others") from None
    if len(leaves) != head.size or (len(shape) > 1 and shape != head.shape):
        raise invalid_argument(
            f"{what}: expected {head.size} values for shape {list(head.shape)}, "
            f"got {len(leaves)} of shape {list(shape)}"
        )
    if not kinds <= _KINDS[head.dtype]:
        wrong = next(leaf for leaf in leaves if type(leaf) not in _KINDS[head.dtype])
        raise invalid_argument(f"{what}: expected values of {datatype}, got {_shown(wrong)}")
    if head.dtype == DType.STRING:
        try:
            return string_array(head, [leaf.encode("utf-8", "surrogateescape") for leaf in leaves])
        except UnicodeEncodeError:
            raise invalid_argument(f"{what}: expected strings that UTF-8 can carry, got half a character") from None
    return _numbers(head, leaves).reshape(head.shape)


def _numbers(head: TensorHead, leaves: Sequence[Any]) -> Array:
    dtype = NUMPY_OF[head.dtype]
    if dtype.kind in "iu" and leaves:
        limits = np.iinfo(dtype)
        for value in (min(leaves), max(leaves)):
            if not limits.min <= value <= limits.max:
                raise invalid_argument(
                    f"input {head.name}: expected values of {DATATYPES[head.dtype]}, "
                    f"of which {_shown(value)} is out of range"
                )
    if dtype.kind in "iub":
        return np.array(leaves, dtype)
    with np.errstate(over="ignore"):  # what is too large for FP32 becomes infinite, as over the other interfaces
        return np.array(leaves, np.float64).astype(dtype)


def _data_text(name: str, array: Array) -> bytes:
    """The values as a flat JSON list."""
    flat = array.ravel()
    if array.dtype != object:
        other = _WRITTEN_AS.get(flat.dtype)
        return array_text("", flat if other is None else flat.astype(other))
    try:
        return orjson.dumps([value.decode() for value in flat.tolist()])
    except UnicodeDecodeError:
        raise invalid_argument(
            f"output {name} has a string that is not UTF-8, which JSON cannot carry: ask for binary_data"
        ) from None


def _objects(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    items = _given(document, key, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise invalid_argument(f"Expected {key} to be a list of objects, got {_shown(items)}")
    return items


def _parameters(item: Mapping[str, Any], what: str) -> dict[str, Parameter]:
    given = _given(item, "parameters", {})
    if not isinstance(given, dict):
        raise invalid_argument(f"{what}: expected parameters to be an object, got {_shown(given)}")
    parameters: dict[str, Parameter] = {}
    for name, value in given.items():
        if isinstance(value, bool | int | float | str):
            parameters[name] = value
        elif value is not None:
            raise invalid_argument(
                f"{what}: expected the parameter {name} to be a number, a string, true or false; got {_shown(value)}"
            )
    return parameters


def _given(item: Mapping[str, Any], key: str, default: Any) -> Any:
    """Clients write null for what they leave out."""
    value = item.get(key)
    return default if value is None else value


def _flag(parameters: Mapping[str, Parameter], name: str, what: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise invalid_argument(f"{what}: expected {name} to be true or false, got {_shown(value)}")
    return value


def _text(item: Mapping[str, Any], key: str, what: str, default: str | None = None) -> str:
    value = _given(item, key, default)
    if not isinstance(value, str):
        raise invalid_argument(f"{what}: expected {key} to be a string, got {_shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise invalid_argument(f"{what}: expected {key} to be UTF-8, got {ascii(value)[:80]}") from None
    return value


def _shown(value: object) -> str:
    """A value as text that is short."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
