"""What the Open Inference Protocol calls a model, in our words: a version by number or label, and one signature."""

from collections.abc import Mapping

from pyserving.api.models import DEFAULT_SIGNATURE, ModelSpec
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DTYPE_OF
from pyserving.platforms.model import Array, Model, Signature, TensorSpec
from pyserving.wire.oip_tensors import datatype_text


def model_spec(name: str, version: str) -> ModelSpec:
    """The protocol has one text for the version: a number, nothing for the default version, else a label of ours."""
    if not version:
        return ModelSpec(name)
    if version.isascii() and version.isdigit():
        if len(version) > 19 or int(version) >= 1 << 63:
            raise invalid_argument(f"Expected a version below 2^63, got {version[:40]}")
        return ModelSpec(name, int(version))
    return ModelSpec(name, label=version)


def find_signature(model: Model, name: str) -> Signature:
    """The signature ``name``; where it is empty the default one, or the only one that there is.

    Raises FAILED_PRECONDITION.
    """
    signatures = model.signatures
    if not name and DEFAULT_SIGNATURE not in signatures and len(signatures) == 1:
        return next(iter(signatures.values()))
    signature = signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"Expected a signature out of {_names(signatures)}, got {name or DEFAULT_SIGNATURE!r}; the parameter "
            "signature_name chooses one",
        )
    return signature


def check_inputs(signature: Signature, inputs: Mapping[str, Array]) -> None:
    """Raises INVALID_ARGUMENT unless the signature's inputs are there, no others, and of its datatypes."""
    wanted = signature.inputs
    if unknown := sorted(inputs.keys() - wanted.keys()):
        raise invalid_argument(f"Expected the inputs {_names(wanted)}, got also {', '.join(unknown)}")
    if missing := sorted(wanted.keys() - inputs.keys() - signature.defaults.keys()):
        raise invalid_argument(f"Expected the inputs {_names(wanted)}, got no {', '.join(missing)}")
    for name, array in inputs.items():
        _check_datatype(wanted[name], array)


def _check_datatype(spec: TensorSpec, array: Array) -> None:
    dtype = DTYPE_OF[array.dtype]
    if dtype != spec.dtype:
        raise invalid_argument(f"input {spec.name}: expected {datatype_text(spec.dtype)}, got {datatype_text(dtype)}")


def tensor_metadata(spec: TensorSpec) -> dict[str, object]:
    """Name, datatype and shape of an input or output; -1 is a size that may vary, and a shape of unknown rank."""
    return {"name": spec.name, "datatype": datatype_text(spec.dtype), "shape": shape_of(spec)}


def shape_of(spec: TensorSpec) -> list[int]:
    return [-1] if spec.shape is None else [-1 if size is None else size for size in spec.shape]


def _names(named: Mapping[str, object]) -> str:
    return ", ".join(sorted(named)) or "(none)"
