"""The REST interface of the models that are served, as an OpenAPI 3.1 document.

Schemas are those of JSON Schema 2020-12, made from the signatures: dtypes, shapes, row and column form, ``b64``.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

import pyserving
from pyserving.api.models import DEFAULT_SIGNATURE
from pyserving.api.openapi_more import OIP_SCHEMAS, ROLLOUT_SCHEMAS, oip_model_paths, oip_server_paths, rollout_paths
from pyserving.api.predict import CLASSIFY, REGRESS
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Signature, TensorSpec
from pyserving.wire.json_tensors import READABLE

Json = dict[str, object]

_MOST_EXAMPLE_VALUES = 64
"""A longer example is no help to read: there is none."""
_FLOATS = frozenset((DType.FLOAT, DType.DOUBLE, DType.HALF, DType.BFLOAT16))


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model, its versions that take requests, highest first, the labels of these, and the one that requests get which
    name none."""

    name: str
    versions: Mapping[int, Mapping[str, Signature]]
    labels: Mapping[str, int]
    default: int | None
    is_pushed: bool = False


def openapi_document(
    models: Iterable[ServedModel], *, health: bool, metrics_path: str, keys: bool, oip: bool = False
) -> Json:
    """The document. ``health``, ``metrics_path``: what is served besides models, see RestApi. ``keys``: clients have to
    show API keys. ``oip``: the Open Inference Protocol is served, too.
    """
    writer = _Writer()
    paths: Json = {}
    tags: list[Json] = []
    for model in models:
        tags.append({"name": model.name, "description": _model_text(model)})
        for place, version, words in _places(model):
            paths |= writer.paths(model, place, model.versions[version], words)
        if model.default is None:
            paths |= writer.status_path(model, f"/v1/models/{quote(model.name, safe='')}", "")
        paths |= rollout_paths(model.name, writer.operation_id, pushed=model.is_pushed)
        if oip:
            signatures = {} if model.default is None else model.versions.get(model.default, {})
            paths |= oip_model_paths(model.name, signatures, writer.operation_id)
    if health or metrics_path or oip:
        tags.append({"name": "server"})
        paths |= _server_paths(health, metrics_path) | (oip_server_paths() if oip else {})
    schemas = {**_COMMON, **ROLLOUT_SCHEMAS, **(OIP_SCHEMAS if oip else {}), **writer.schemas}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PyServing",
            "version": pyserving.__version__,
            "description": "The REST interface of the models that this server has now, that of TensorFlow Serving.",
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {"schemas": schemas, "responses": {"Error": _ERROR}, **_schemes(keys)},
        **({"security": [{"bearer": []}, {"header": []}]} if keys else {}),
    }


def _schemes(keys: bool) -> Json:
    if not keys:
        return {}
    header = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    return {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}, "header": header}}


def _places(model: ServedModel) -> Iterable[tuple[str, int, str]]:
    """Where a model can be asked: path, the version that answers, and that in words."""
    if not model.versions:
        return
    base = f"/v1/models/{quote(model.name, safe='')}"
    if model.default is not None and model.default in model.versions:
        yield base, model.default, ""
    for label, version in model.labels.items():
        if version in model.versions:
            yield f"{base}/labels/{quote(label, safe='')}", version, f", label {label}"
    for version in model.versions:
        yield f"{base}/versions/{version}", version, f", version {version}"


def _model_text(model: ServedModel) -> str:
    if not model.versions:
        return "No version of it can answer now."
    return f"Versions that answer: {', '.join(map(str, model.versions))}."


class _Writer:
    """Makes paths, and gathers the schemas that they refer to."""

    def __init__(self) -> None:
        self.schemas: dict[str, object] = {}
        self._by_signatures: dict[tuple[int, str], str] = {}
        self._operations: set[str] = set()

    def paths(self, model: ServedModel, place: str, signatures: Mapping[str, Signature], words: str) -> Json:
        paths: Json = {}
        callable_ones = [signature for signature in signatures.values() if signature.inputs]
        if callable_ones:
            paths[f"{place}:predict"] = {"post": self._predict(model, callable_ones, words)}
        for verb, method in (("classify", CLASSIFY), ("regress", REGRESS)):
            fitting = [one for one in signatures.values() if one.method_name == method or _takes_examples(one, verb)]
            if fitting:
                paths[f"{place}:{verb}"] = {"post": self._examples(model, verb, fitting, words)}
        return paths | self.status_path(model, place, words) | self._metadata_path(model, place, words)

    def status_path(self, model: ServedModel, place: str, words: str) -> Json:
        return {place: {"get": self._get(model, "status", "ModelStatus", f"Versions and their states{words}", words)}}

    def _metadata_path(self, model: ServedModel, place: str, words: str) -> Json:
        operation = self._get(model, "metadata", "ModelMetadata", f"Signatures{words}", words)
        return {f"{place}/metadata": {"get": operation}}

    def _get(self, model: ServedModel, action: str, schema: str, summary: str, words: str) -> Json:
        return {
            "tags": [model.name],
            "operationId": self.operation_id(action, model.name, words),
            "summary": summary,
            "responses": _answers({"$ref": f"#/components/schemas/{schema}"}),
        }

    def _predict(self, model: ServedModel, signatures: Sequence[Signature], words: str) -> Json:
        requests = [self._refer(model.name, signature, "request", _predict_request) for signature in signatures]
        responses = [self._refer(model.name, signature, "response", _predict_response) for signature in signatures]
        content: Json = {"schema": _any_of(requests)}
        examples = {one.name: {"value": example} for one in signatures if (example := _example(one)) is not None}
        if examples:
            content["examples"] = examples
        return self._post(model, "predict", f"Predict{words}", words, content, _any_of(responses))

    def _examples(self, model: ServedModel, verb: str, signatures: Sequence[Signature], words: str) -> Json:
        names = [signature.name for signature in signatures]
        schema: Json = {
            "allOf": [
                {"$ref": "#/components/schemas/ExamplesRequest"},
                {"properties": {"signature_name": {"enum": names}}},
            ]
        }
        if DEFAULT_SIGNATURE not in names:
            schema["required"] = ["signature_name"]
        result: Json = {"$ref": f"#/components/schemas/{verb.capitalize()}Response"}
        return self._post(model, verb, f"{verb.capitalize()}{words}", words, {"schema": schema}, result)

    def _post(self, model: ServedModel, verb: str, summary: str, words: str, content: Json, answer: Json) -> Json:
        return {
            "tags": [model.name],
            "operationId": self.operation_id(verb, model.name, words),
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": _answers(answer),
        }

    def _refer(self, name: str, signature: Signature, kind: str, make: Callable[[Signature], Json]) -> Json:
        """A reference to the schema of a signature, which is made once."""
        known = self._by_signatures.get((id(signature), kind))
        if known is None:
            known = _unused(f"{_slug(name)}.{_slug(signature.name)}.{kind}", self.schemas)
            self._by_signatures[id(signature), kind] = known
            self.schemas[known] = make(signature)
        return {"$ref": f"#/components/schemas/{known}"}

    def operation_id(self, action: str, name: str, words: str = "") -> str:
        made = _unused(_slug(f"{action}_{name}{words}"), self._operations)
        self._operations.add(made)
        return made


def _takes_examples(signature: Signature, verb: str) -> bool:
    """Whether a signature that does not say so may be classified or regressed with: by its inputs and outputs."""
    outputs = signature.outputs.keys()
    inputs = list(signature.inputs.values())
    if len(inputs) != 1 or inputs[0].name != "inputs" or inputs[0].dtype is not DType.STRING:
        return False
    return bool(outputs & {"classes", "scores"}) if verb == "classify" else "outputs" in outputs


def _predict_request(signature: Signature) -> Json:
    specs = signature.inputs.values()
    names = list(signature.inputs)  # JSON has to name those too that have a default value
    rows: list[Json] = [_rows(_named({spec.name: _tensor(spec, row=True) for spec in specs}, names))]
    columns = _named({spec.name: _tensor(spec) for spec in specs}, names)
    if len(signature.inputs) == 1:
        (spec,) = specs
        rows.insert(0, _rows(_tensor(spec, row=True)))
        columns = {"anyOf": [_tensor(spec), columns]}
    forms: list[Json] = [{"required": ["instances"]}, {"required": ["inputs"]}]
    schema: Json = {
        "type": "object",
        "properties": {
            "signature_name": {"const": signature.name},
            "instances": {**_any_of(rows), "description": "row form"},
            "inputs": {**columns, "description": "column form"},
        },
        "oneOf": forms,
    }
    if signature.name != DEFAULT_SIGNATURE:
        schema["required"] = ["signature_name"]
    return schema


def _rows(row: Json) -> Json:
    return {"type": "array", "minItems": 1, "items": row}


def _predict_response(signature: Signature) -> Json:
    specs = signature.outputs.values()
    names = list(signature.outputs)
    rows = _named({spec.name: _tensor(spec, row=True, out=True) for spec in specs}, names)
    columns = _named({spec.name: _tensor(spec, out=True) for spec in specs}, names)
    if len(names) == 1:
        (spec,) = specs
        rows, columns = _tensor(spec, row=True, out=True), _tensor(spec, out=True)
    return {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": rows}, "outputs": columns},
        "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
    }


def _named(properties: Json, required: Sequence[str]) -> Json:
    return {"type": "object", "properties": properties, "required": required}


def _tensor(spec: TensorSpec, *, row: bool = False, out: bool = False) -> Json:
    """Nested arrays of the shape of ``spec``; of one ``row`` of it, without the first dimension."""
    value = _value(spec, out=out)
    shape = spec.shape
    if shape is None:
        return {"anyOf": [value, {"type": "array"}], "description": f"{spec.dtype.text}, of any shape"}
    inner = shape[1:] if row else shape
    schema = value
    for size in reversed(inner):
        fixed: Json = {} if size is None else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema, **fixed}
    sizes = ", ".join("?" if size is None else str(size) for size in inner)
    return {**schema, "description": f"{spec.dtype.text} [{sizes}]"}


def _value(spec: TensorSpec, *, out: bool) -> Json:
    dtype = spec.dtype
    if dtype is DType.STRING:
        base64: Json = {"$ref": "#/components/schemas/Base64"}
        if out:
            return base64 if spec.name.endswith("_bytes") else {"type": "string"}
        return {"anyOf": [{"type": "string"}, base64]}
    if dtype is DType.BOOL:
        return {"type": "boolean"}
    if not out and dtype not in READABLE:
        return {"not": {}}  # JSON cannot carry it
    numbers = NUMPY_OF.get(dtype)
    if dtype in _FLOATS:
        return {"type": "number"}
    if numbers is not None and numbers.kind in "iu":
        limits = np.iinfo(numbers)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    return {}


def _example(signature: Signature) -> Json | None:
    values: Json = {}
    for spec in signature.inputs.values():
        shape = (None,) if spec.shape is None else spec.shape
        if spec.dtype not in READABLE or np.prod([size or 1 for size in shape]) > _MOST_EXAMPLE_VALUES:
            return None
        sample = {DType.STRING: "text", DType.BOOL: True}.get(spec.dtype, 1.0 if spec.dtype in _FLOATS else 1)
        for size in reversed(shape):
            sample = [sample] * (size or 1)
        values[spec.name] = sample
    named: Json = {} if signature.name == DEFAULT_SIGNATURE else {"signature_name": signature.name}
    (first, *others) = signature.inputs.values()
    if others or first.shape == ():
        return {**named, "inputs": values}
    return {**named, "instances": values[first.name]}


def _answers(schema: Json) -> Json:
    return {
        "200": {"description": "The answer", "content": {"application/json": {"schema": schema}}},
        "default": {"$ref": "#/components/responses/Error"},
    }


def _any_of(schemas: Sequence[Json]) -> Json:
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text) or "_"


def _unused(name: str, used: "set[str] | dict[str, object]") -> str:
    """``name``, with a number behind it if it is in use."""
    number, found = 2, name
    while found in used:
        found = f"{name}_{number}"
        number += 1
    return found


def _server_paths(health: bool, metrics_path: str) -> Json:
    def page(operation: str, summary: str, schema: Json, *others: tuple[str, str]) -> Json:
        content = {"application/json": {"schema": schema}}
        responses: Json = {"200": {"description": "Yes", "content": content}}
        responses |= {status: {"description": text, "content": content} for status, text in others}
        return {"get": {"tags": ["server"], "operationId": operation, "summary": summary, "responses": responses}}

    paths: Json = {}
    if health:
        alive: Json = {"type": "object", "properties": {"alive": {"const": True}}}
        ready: Json = {
            "type": "object",
            "properties": {
                "ready": {"type": "boolean"},
                "draining": {"type": "boolean"},
                "missing": {"type": "array", "items": {"type": "string"}},
                "reasons": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["ready", "draining", "missing", "reasons"],
        }
        models = {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/ModelStatus"}}
        listing: Json = {"type": "object", "properties": {"models": models}, "required": ["models"]}
        paths["/healthz"] = page("server_alive", "Is the server alive?", alive)
        paths["/readyz"] = page("server_ready", "Can all models answer?", ready, ("503", "Not yet, or not any more"))
        paths["/v1/models"] = page("server_models", "All models", listing)
    if metrics_path:
        content = {"text/plain": {"schema": {"type": "string"}}}
        paths[metrics_path] = {
            "get": {
                "tags": ["server"],
                "operationId": "server_metrics",
                "summary": "Metrics for Prometheus",
                "responses": {"200": {"description": "The page", "content": content}},
            }
        }
    return paths


_ERROR: Json = {
    "description": "What is wrong, and with which status",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}

_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_FEATURE_VALUE: Json = {"anyOf": [{"type": ["number", "string", "boolean"]}, {"$ref": "#/components/schemas/Base64"}]}
_FEATURE: Json = {"anyOf": [_FEATURE_VALUE, {"type": "array", "items": _FEATURE_VALUE}]}

_COMMON: dict[str, object] = {
    "Base64": {
        "type": "object",
        "properties": {"b64": {"type": "string", "contentEncoding": "base64", "pattern": _BASE64}},
        "required": ["b64"],
        "maxProperties": 1,
    },
    "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
    "ModelStatus": {
        "type": "object",
        "properties": {
            "model_version_status": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "version": {"type": "string"},
                        "state": {"enum": ["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]},
                        "status": {
                            "type": "object",
                            "properties": {"error_code": {"type": "string"}, "error_message": {"type": "string"}},
                        },
                    },
                },
            }
        },
        "required": ["model_version_status"],
    },
    "ModelMetadata": {
        "type": "object",
        "properties": {
            "model_spec": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "signature_name": {"type": "string"},
                    "version": {"type": "string"},
                },
            },
            "metadata": {"type": "object", "properties": {"signature_def": {"type": "object"}}},
        },
        "required": ["model_spec", "metadata"],
    },
    "ExamplesRequest": {
        "type": "object",
        "properties": {
            "signature_name": {"type": "string"},
            "context": {"type": "object", "additionalProperties": _FEATURE},
            "examples": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "object", "additionalProperties": _FEATURE},
            },
        },
        "required": ["examples"],
    },
    "ClassifyResponse": {
        "type": "object",
        "properties": {
            "results": {
                "type": "array",
                "items": {
                    "type": "array",
                    "items": {
                        "type": "array",
                        "prefixItems": [{"type": "string"}, {"type": "number"}],
                        "minItems": 2,
                        "maxItems": 2,
                    },
                },
            }
        },
        "required": ["results"],
    },
    "RegressResponse": {
        "type": "object",
        "properties": {"results": {"type": "array", "items": {"type": "number"}}},
        "required": ["results"],
    },
}
