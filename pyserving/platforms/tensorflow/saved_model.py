"""What a SavedModel says of itself: its signatures, as its ``MetaGraphDef`` has them."""

import os
from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Signature, TensorSpec
from pyserving.platforms.tensorflow.library import TensorFlow
from pyserving.platforms.tensorflow.tensors import read_tensor_proto
from pyserving.protos.messages import MetaGraphDef, SavedModel, SignatureDef, TensorInfo, TensorShapeProto
from pyserving.sources.os_errors import serving_error

SAVED_MODEL_FILE = "saved_model.pb"
_FILES = (SAVED_MODEL_FILE, "saved_model.pbtxt", "saved_model.cpb")


def is_saved_model(path: str) -> bool:
    """Whether the folder looks like a SavedModel."""
    return any(os.path.isfile(os.path.join(path, name)) for name in _FILES)


def check_folder(path: str) -> None:
    """Raises NOT_FOUND, with TensorFlow Serving's text, unless the folder looks like a SavedModel."""
    if not is_saved_model(path):
        raise ServingError(
            Code.NOT_FOUND,
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
            f"`saved_model.pb`)\nSpecified file path: {path}",
        )


def read_signatures(tf: TensorFlow, signature_defs: Mapping[str, SignatureDef]) -> dict[str, Signature]:
    """All signatures, with their inputs and outputs by name. Raises ServingError for a default that is no tensor."""
    return {name: _signature(tf, name, signature_def) for name, signature_def in signature_defs.items()}


def _signature(tf: TensorFlow, name: str, signature_def: SignatureDef) -> Signature:
    return Signature(
        name=name,
        inputs=tensor_specs(signature_def.inputs),
        outputs=tensor_specs(signature_def.outputs),
        method_name=signature_def.method_name,
        defaults={
            alias: read_tensor_proto(tf, proto.SerializeToString())
            for alias, proto in sorted(signature_def.defaults.items())
        },
    )


def tensor_specs(infos: Mapping[str, TensorInfo]) -> dict[str, TensorSpec]:
    """What the message says of inputs or outputs, in the order of their aliases."""
    return {alias: _spec(alias, info) for alias, info in sorted(infos.items())}


def _spec(alias: str, info: TensorInfo) -> TensorSpec:
    try:
        dtype = DType(info.dtype)
    except ValueError:
        dtype = DType.INVALID
    # Sparse and composite tensors are several tensors under one alias: there is no one name to feed or fetch.
    shape = _shape(info.tensor_shape) if info.HasField("tensor_shape") else None
    return TensorSpec(alias, info.name, dtype, shape)


def _shape(proto: TensorShapeProto) -> tuple[int | None, ...] | None:
    if proto.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in proto.dim)


def read_meta_graph(folder: str, tags: Iterable[str]) -> MetaGraphDef:
    """The graph with exactly these tags. Raises ServingError: NOT_FOUND, or INVALID_ARGUMENT for a damaged file."""
    path = os.path.join(folder, SAVED_MODEL_FILE)
    try:
        with open(path, "rb") as file:
            saved_model = SavedModel.FromString(file.read())
    except OSError as error:
        raise serving_error(path, error) from None
    except DecodeError:
        raise invalid_argument(f"{path} is no SavedModel, or not a whole one") from None
    wanted = set(tags)
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == wanted:
            return meta_graph
    found = "; ".join(", ".join(meta_graph.meta_info_def.tags) for meta_graph in saved_model.meta_graphs)
    raise ServingError(
        Code.NOT_FOUND, f"{path} has no graph with the tags {', '.join(sorted(wanted))}: it has {found or 'none'}"
    )
