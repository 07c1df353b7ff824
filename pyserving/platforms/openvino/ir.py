"""OpenVINO's own files: a graph in XML, and its weights beside it."""

import os
import re
from typing import Any

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Signature, TensorSpec
from pyserving.platforms.openvino.compiled import CompiledFunction
from pyserving.platforms.openvino.runtime import core, message
from pyserving.platforms.openvino.tensor_types import dtype_of
from pyserving.platforms.signature_def import DEFAULT_SIGNATURE, PREDICT_METHOD

FILE_NAME = "model.xml"
_WEIGHTS = "model.bin"
_MADE_UP = re.compile(r"Result_\d+")
"""The names that OpenVINO gives to outputs that have none."""


def compile_ir(folder: str, num_threads: int) -> tuple[Signature, CompiledFunction]:
    """The one function of ``model.xml``, with its weights in ``model.bin``. Raises ServingError."""
    path = os.path.join(folder, FILE_NAME)
    if not os.path.isfile(path):
        raise ServingError(Code.NOT_FOUND, f"there is no {path}")
    if not os.path.isfile(os.path.join(folder, _WEIGHTS)):
        raise ServingError(Code.NOT_FOUND, f"{path} needs its weights beside it: there is no {_WEIGHTS}")
    try:
        model = core().read_model(path)
    except Exception as error:
        raise invalid_argument(f"OpenVINO cannot read {path}: {message(error)}") from None
    inputs = [_spec(port, port.node.get_friendly_name()) for port in model.inputs]
    # A result without a name is called after what it is the result of.
    outputs = [_spec(port, port.node.input_value(0).get_node().get_friendly_name()) for port in model.outputs]
    for specs in (inputs, outputs):
        names = [spec.name for spec in specs]
        if len(set(names)) < len(names):
            raise ServingError(Code.ALREADY_EXISTS, f"{path}: tensor names are not unique: {sorted(names)}")
    function = CompiledFunction(
        model, dict(enumerate(inputs)), {spec.name: index for index, spec in enumerate(outputs)}, num_threads
    )
    fed, fetched = {spec.name: spec for spec in inputs}, {spec.name: spec for spec in outputs}
    signature = Signature(
        name=DEFAULT_SIGNATURE,
        inputs=fed,
        outputs=fetched,
        method_name=PREDICT_METHOD,
        stateless=True,
        steady=function.steady,
    )
    return signature, function


def _spec(port: Any, node_name: str) -> TensorSpec:
    """Of several names of one tensor, the shortest is the one that a person gave."""
    names = [name for name in port.get_names() if not _MADE_UP.fullmatch(name)]
    name = min(names, key=lambda name: (len(name), name), default=node_name)
    partial = port.get_partial_shape()
    shape = None
    if partial.rank.is_static:
        shape = tuple(dimension.get_length() if dimension.is_static else None for dimension in partial)
    return TensorSpec(name, name, dtype_of(name, port.get_element_type().get_type_name()), shape)
