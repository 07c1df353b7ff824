"""Signatures as TensorFlow Serving shows them to clients, for platforms whose models have no such messages."""

from collections.abc import Mapping

from pyserving.platforms.model import Signature, TensorSpec
from pyserving.protos.messages import SignatureDef, TensorInfo

DEFAULT_SIGNATURE = "serving_default"
"""The name of the signature that a request gets which names none."""
PREDICT_METHOD = "tensorflow/serving/predict"


def signature_defs(signatures: Mapping[str, Signature]) -> dict[str, SignatureDef]:
    """The message of each signature, by the same name."""
    return {name: _signature_def(signature) for name, signature in signatures.items()}


def _signature_def(signature: Signature) -> SignatureDef:
    made = SignatureDef(method_name=signature.method_name)
    for infos, specs in ((made.inputs, signature.inputs), (made.outputs, signature.outputs)):
        for alias, spec in specs.items():
            infos[alias].CopyFrom(tensor_info(spec))
    return made


def tensor_info(spec: TensorSpec) -> TensorInfo:
    """A size that is not known is -1, as everywhere in TensorFlow."""
    info = TensorInfo(name=spec.tensor_name, dtype=spec.dtype)
    info.tensor_shape.SetInParent()
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
    else:
        for size in spec.shape:
            info.tensor_shape.dim.add(size=-1 if size is None else size)
    return info
