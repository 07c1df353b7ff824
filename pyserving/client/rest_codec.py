"""Calls of the REST interface: paths and JSON bodies."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import orjson

from pyserving.client.answers import (
    Class,
    ModelMetadata,
    Prediction,
    SignatureSpec,
    VersionStatus,
    definition_of,
    read_metadata,
)
from pyserving.client.arrays import to_array
from pyserving.client.call import Call, ModelSpec, Task
from pyserving.client.errors import Mismatch, NotOffered
from pyserving.client.examples import example_document
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF, DType
from pyserving.platforms.model import Array
from pyserving.protos.messages import Example, ModelServerConfig
from pyserving.wire.base64_text import decode_base64, encode_base64
from pyserving.wire.json_writer import array_text

T = TypeVar("T")

_NDJSON = ("Accept", "application/x-ndjson")


class RestCodec:
    """Inputs go by column (``inputs``), which any signature can be given by."""

    def predict(
        self,
        spec: ModelSpec,
        signature: SignatureSpec,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        streamed: bool = False,
    ) -> Call[Prediction]:
        members = [orjson.dumps(name) + b":" + tensor_text(name, array) for name, array in inputs.items()]
        body = b'{"signature_name":%b,"inputs":{%b}}' % (orjson.dumps(signature.name), b",".join(members))
        read = _reader(partial(_prediction, signature, outputs))
        return Call(_path(spec) + ":predict", body, read, [_NDJSON] if streamed else [])

    def classify(self, spec: ModelSpec, signature: str, examples: Sequence[Example]) -> Call[list[list[Class]]]:
        return Call(_path(spec) + ":classify", _examples_body(signature, examples), _reader(_classes))

    def regress(self, spec: ModelSpec, signature: str, examples: Sequence[Example]) -> Call[Array]:
        read = _reader(lambda document: np.array(document["results"], np.float32))
        return Call(_path(spec) + ":regress", _examples_body(signature, examples), read)

    def multi_inference(
        self,
        spec: ModelSpec,  # noqa: ARG002
        tasks: Sequence[Task],  # noqa: ARG002
        examples: Sequence[Example],  # noqa: ARG002
    ) -> Call[list[list[list[Class]] | Array]]:
        raise NotOffered("MultiInference is asked for over gRPC; REST has no such method")

    def metadata(self, spec: ModelSpec) -> Call[ModelMetadata]:
        return Call(_path(spec) + "/metadata", b"", _reader(partial(_metadata, spec.name)))

    def status(self, spec: ModelSpec) -> Call[list[VersionStatus]]:
        return Call(_path(spec), b"", _reader(_statuses))

    def models(self) -> Call[dict[str, list[VersionStatus]]]:
        return Call(
            "/v1/models",
            b"",
            _reader(lambda document: {name: _statuses(listed) for name, listed in document["models"].items()}),
        )

    def reload(self, config: ModelServerConfig) -> Call[None]:  # noqa: ARG002
        raise NotOffered("a reload is asked for over gRPC; REST has no such method")

    def ready(self) -> Call[bool]:
        return Call("/readyz", b"", lambda _: True)


def _path(spec: ModelSpec) -> str:
    path = f"/v1/models/{quote(spec.name, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return path if spec.label is None else f"{path}/labels/{quote(spec.label, safe='')}"


def tensor_text(name: str, array: Array) -> bytes:
    """The JSON text of a tensor; what is no UTF-8 as ``{"b64": ...}``. Raises INVALID_ARGUMENT for complex numbers."""
    dtype = DTYPE_OF[array.dtype]
    if dtype is DType.STRING:
        encoded = np.empty(array.size, object)
        encoded[:] = [_string(value, name.endswith("_bytes")) for value in array.ravel().tolist()]
        return orjson.dumps(encoded.reshape(array.shape).tolist())
    if dtype is DType.UINT16:
        array = array.astype(np.int32)
    elif array.dtype.names:
        array = array.view(array.dtype[0]).astype(np.int32)
    elif array.dtype.kind == "V":  # bfloat16, float8, int4: numbers that numpy has not got
        array = array.astype(np.int8 if dtype in (DType.INT4, DType.UINT4) else np.float32)
    elif array.dtype.kind == "c":
        raise invalid_argument(f"{name}: JSON cannot carry {dtype.text}; use the gRPC port")
    return array_text(name, array)


def _string(value: bytes, base64: bool) -> Any:
    if not base64:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": encode_base64(value)}


def _examples_body(signature: str, examples: Sequence[Example]) -> bytes:
    document: dict[str, Any] = {"signature_name": signature} if signature else {}
    # Python's writer, for it tells 1.0 from 1 and knows NaN as the servers do.
    return json.dumps(document | {"examples": [example_document(example) for example in examples]}).encode()


def _reader(read: Callable[[Any], T]) -> Callable[[bytes], T]:
    def read_body(body: bytes) -> T:
        try:
            return read(_loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise Mismatch(f"the answer is not one of a model server: {error!r} in {body[:200]!r}") from None

    return read_body


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)  # which knows NaN and Infinity


def _prediction(signature: SignatureSpec, wanted: Sequence[str], document: Any) -> Prediction:
    if "error" in document and "outputs" not in document:  # the last piece of a stream
        raise ServingError(Code.UNKNOWN, str(document["error"]))
    values = document["outputs"]
    if len(signature.outputs) == 1:
        values = {next(iter(signature.outputs)): values}
    elif not isinstance(values, dict) or values.keys() != signature.outputs.keys():
        found = ", ".join(values) if isinstance(values, dict) else "one value"
        raise Mismatch(f"expected the outputs {', '.join(signature.outputs)}, got {found}")
    for name in wanted:
        if name not in values:
            raise invalid_argument(f"signature {signature.name} has no output {name}; it has {', '.join(values)}")
    names = wanted or tuple(values)
    return Prediction({name: _output(name, values[name], signature.outputs[name].dtype) for name in names}, None)


def _output(name: str, value: Any, dtype: DType) -> Array:
    try:
        return to_array(name, _with_bytes(value) if dtype is DType.STRING else value, dtype)
    except ServingError as error:
        raise Mismatch(f"output {name} is not {dtype.text}: {error.message}") from None


def _with_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    return decode_base64(value["b64"]) if isinstance(value, dict) else value


def _classes(document: Any) -> list[list[Class]]:
    return [[Class(label, float(score)) for label, score in row] for row in document["results"]]


def _statuses(document: Any) -> list[VersionStatus]:
    return [
        VersionStatus(int(one["version"]), one["state"], one["status"]["error_code"], one["status"]["error_message"])
        for one in document["model_version_status"]
    ]


def _metadata(name: str, document: Any) -> ModelMetadata:
    definitions = document["metadata"]["signature_def"]["signature_def"]
    made = {key: definition_of(definition) for key, definition in definitions.items()}
    return read_metadata(name, int(document["model_spec"]["version"]), made)
