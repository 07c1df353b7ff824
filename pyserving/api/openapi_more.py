"""What the OpenAPI document says of rollout, of pushed versions and of the Open Inference Protocol."""

from collections.abc import Callable, Mapping
from urllib.parse import quote

import numpy as np

from pyserving.api.models import DEFAULT_SIGNATURE
from pyserving.api.oip_models import tensor_metadata
from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Signature

Json = dict[str, object]

NewId = Callable[[str, str], str]
"""An operationId that nothing else has, from an action and the name of a model."""

_MOST_EXAMPLE_VALUES = 64
_NOT_READY = {"503": "Not yet, or not any more"}


def rollout_paths(name: str, new_id: NewId, *, pushed: bool) -> Json:
    """``:promote`` and ``:rollback`` of a model, ``:aspire`` where its versions are pushed."""
    place = f"/v1/models/{quote(name, safe='')}"
    paths: Json = {
        f"{place}:promote": _post(
            name, new_id("promote", name), "Make a version the default one (role admin)", "PromoteRequest", "Moved", {}
        ),
        f"{place}:rollback": _post(
            name, new_id("rollback", name), "Back to the default version before (role admin)", "Nothing", "Moved", {}
        ),
    }
    if pushed:
        paths[f"{place}:aspire"] = _post(
            name,
            new_id("aspire", name),
            "Say which versions there should be (role admin)",
            "Aspired",
            "Aspired",
            None,
            required=True,
        )
    return paths


def oip_server_paths() -> Json:
    """Below ``/v2``, of the server as a whole."""
    return {
        "/v2": _get("server", "v2_server", "About the server (v2)", "V2Object"),
        "/v2/health/live": _get("server", "v2_live", "Is the server alive? (v2)", "V2Object"),
        "/v2/health/ready": _get("server", "v2_ready", "Can all models answer? (v2)", "V2Object", _NOT_READY),
        "/v2/models/stats": _get("server", "v2_stats", "Statistics of all models (v2)", "V2Object"),
        "/v2/repository/index": _post("server", "v2_index", "All models and versions (v2)", "V2Object", "V2Index", {}),
    }


def oip_model_paths(name: str, signatures: Mapping[str, Signature], new_id: NewId) -> Json:
    """Below ``/v2``, of a model whose default version has these signatures; what is asked of it needs a function."""
    place = f"/v2/models/{quote(name, safe='')}"
    paths: Json = {}
    signature = signatures.get(DEFAULT_SIGNATURE)
    if signature is None and len(signatures) == 1:
        signature = next(iter(signatures.values()))
    if signature is not None:
        paths[f"{place}/infer"] = _post(
            name,
            new_id("v2_infer", name),
            "Infer (v2)",
            "V2InferRequest",
            "V2InferResponse",
            _infer_example(signature),
            required=True,
        )
        for path, action, summary in (
            ("", "v2_metadata", "Datatypes and shapes (v2)"),
            ("/config", "v2_config", "Configuration (v2)"),
        ):
            paths[f"{place}{path}"] = _get(name, new_id(action, name), summary, "V2Object")
        paths[f"{place}/ready"] = _get(
            name, new_id("v2_model_ready", name), "Can it answer? (v2)", "V2Object", _NOT_READY
        )
        paths[f"{place}/stats"] = _get(name, new_id("v2_model_stats", name), "Statistics (v2)", "V2Object")
    repository = f"/v2/repository/models/{quote(name, safe='')}"
    for action in ("load", "unload"):
        paths[f"{repository}/{action}"] = _post(
            name,
            new_id(f"v2_{action}", name),
            f"{action.capitalize()} it (v2, role admin)",
            "V2Object",
            "V2Object",
            {},
        )
    return paths


def _infer_example(signature: Signature) -> Json | None:
    tensors = []
    for spec in signature.inputs.values():
        try:
            tensor = tensor_metadata(spec)
        except ServingError:  # the protocol has no name for its datatype
            return None
        shape = [1 if size is None else size for size in spec.shape or (None,)] if spec.shape != () else []
        count = int(np.prod(shape))
        if count > _MOST_EXAMPLE_VALUES:
            return None
        value = {DType.STRING: "text", DType.BOOL: True}.get(spec.dtype, 1)
        tensors.append({**tensor, "shape": shape, "data": [value] * count})
    return {"inputs": tensors} if tensors else None


def _get(tag: str, operation: str, summary: str, schema: str, others: Mapping[str, str] = {}) -> Json:
    """``others``: what else the status may be, with the same schema, and what that says."""
    responses = _responses(schema, others)
    return {"get": {"tags": [tag], "operationId": operation, "summary": summary, "responses": responses}}


def _post(
    tag: str, operation: str, summary: str, takes: str, schema: str, example: Json | None, *, required: bool = False
) -> Json:
    content: Json = {"schema": {"$ref": f"#/components/schemas/{takes}"}}
    if example is not None:
        content["examples"] = {"example": {"value": example}}
    body = {"required": required, "content": {"application/json": content}}
    return {
        "post": {
            "tags": [tag],
            "operationId": operation,
            "summary": summary,
            "requestBody": body,
            "responses": _responses(schema),
        }
    }


def _responses(schema: str, others: Mapping[str, str] = {}) -> Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    texts = {"200": "The answer", **others}
    return {
        **{status: {"description": text, "content": content} for status, text in texts.items()},
        "default": {"$ref": "#/components/responses/Error"},
    }


_NUMBER: Json = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+$"}]}

ROLLOUT_SCHEMAS: Json = {
    "Nothing": {"type": "object", "maxProperties": 0},
    "PromoteRequest": {
        "type": "object",
        "properties": {"version": _NUMBER, "label": {"type": "string"}},
        "additionalProperties": False,
        "maxProperties": 1,
        "description": "neither: the highest available version",
    },
    "Moved": {
        "type": "object",
        "properties": {"version": {"type": "string"}, "previous_version": {"type": "string"}},
        "required": ["version", "previous_version"],
    },
    "Aspired": {
        "type": "object",
        "properties": {
            "versions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"number": _NUMBER, "path": {"type": "string"}},
                    "required": ["number"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["versions"],
        "additionalProperties": False,
    },
}

_TENSOR: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
    "required": ["name", "datatype", "shape"],
}
OIP_SCHEMAS: Json = {
    "V2Object": {"type": "object"},
    "V2Index": {"type": "array", "items": {"type": "object"}},
    "V2InferRequest": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
            "outputs": {
                "type": "array",
                "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            },
        },
        "required": ["inputs"],
    },
    "V2InferResponse": {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _TENSOR},
        },
        "required": ["model_name", "outputs"],
    },
}
