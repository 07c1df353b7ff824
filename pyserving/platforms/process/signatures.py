"""Signatures as values of JSON, for the other process."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Array, Signature, TensorSpec

_PLAIN = [field.name for field in fields(Signature) if field.name not in ("inputs", "outputs", "defaults")]


def to_json(signature: Signature) -> dict[str, Any]:
    """All but the default values of inputs, which are tensors."""
    return {
        **{name: getattr(signature, name) for name in _PLAIN},
        "inputs": [_spec_to_json(spec) for spec in signature.inputs.values()],
        "outputs": [_spec_to_json(spec) for spec in signature.outputs.values()],
    }


def from_json(value: Mapping[str, Any], defaults: Mapping[str, Array]) -> Signature:
    return Signature(
        **{name: value[name] for name in _PLAIN},
        inputs={spec[0]: _spec_from_json(*spec) for spec in value["inputs"]},
        outputs={spec[0]: _spec_from_json(*spec) for spec in value["outputs"]},
        defaults=defaults,
    )


def _spec_to_json(spec: TensorSpec) -> list[Any]:
    return [spec.name, spec.tensor_name, int(spec.dtype), spec.shape]


def _spec_from_json(name: str, tensor_name: str, dtype: int, shape: list[int | None] | None) -> TensorSpec:
    return TensorSpec(name, tensor_name, DType(dtype), None if shape is None else tuple(shape))
