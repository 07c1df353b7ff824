"""A request that a person can paste into a terminal, made from a model's signature."""

import json
import shlex
from collections.abc import Mapping

from pyserving.api.models import DEFAULT_SIGNATURE
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Model, Signature, TensorSpec

_MOST_VALUES = 16
"""A longer example is no help to read."""

_SAMPLES: Mapping[DType, object] = {
    DType.STRING: "text",
    DType.BOOL: True,
    **dict.fromkeys((DType.FLOAT, DType.DOUBLE), 1.0),
    **dict.fromkeys((DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.UINT8, DType.UINT32, DType.UINT64), 1),
}


def curl_line(name: str, model: Model, rest_address: str, scheme: str = "http") -> str:
    """A curl command that predicts with the model's default signature, or shows its signatures if that is too long."""
    url = f"{scheme}://{rest_address}/v1/models/{name}"
    signature = _signature(model)
    body = None if signature is None else _body(signature)
    if signature is None or body is None:
        return f"curl {shlex.quote(url + '/metadata')}"
    options = "-N -H 'Accept: application/x-ndjson' " if signature.streams else ""
    return f"curl {options}-d {shlex.quote(json.dumps(body))} {shlex.quote(url + ':predict')}"


def _signature(model: Model) -> Signature | None:
    """The default one, else the first that can be called over REST."""
    callable_ones = [signature for signature in model.signatures.values() if signature.inputs]
    if not callable_ones:
        return None
    signature = model.signatures.get(DEFAULT_SIGNATURE)
    return signature if signature is not None and signature.inputs else callable_ones[0]


def _body(signature: Signature) -> dict[str, object] | None:
    body: dict[str, object] = {} if signature.name == DEFAULT_SIGNATURE else {"signature_name": signature.name}
    values = _inputs(signature)
    if values is None:
        return None
    body["inputs" if len(values) > 1 or _is_scalar(signature) else "instances"] = (
        values if len(values) > 1 else next(iter(values.values()))
    )
    return body


def _is_scalar(signature: Signature) -> bool:
    return all(spec.shape == () for spec in signature.inputs.values())


def _inputs(signature: Signature) -> dict[str, object] | None:
    values: dict[str, object] = {}
    for name, spec in signature.inputs.items():
        sample = _SAMPLES.get(spec.dtype)
        if sample is None or _count(spec) > _MOST_VALUES:
            return None
        values[name] = _nested(sample, spec.shape if spec.shape is not None else (None,))
    return values


def _count(spec: TensorSpec) -> int:
    count = 1
    for size in spec.shape or ():
        count *= 1 if size is None else size
    return count


def _nested(sample: object, shape: tuple[int | None, ...]) -> object:
    if not shape:
        return sample
    return [_nested(sample, shape[1:])] * (1 if shape[0] is None else shape[0])
