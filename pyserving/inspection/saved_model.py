"""What a SavedModel says of itself, without a session."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import prod

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.inspection.description import (
    DENSE,
    Description,
    GraphDescription,
    SignatureDescription,
    TensorDescription,
    Variables,
    dtype_name,
)
from pyserving.platforms.dtypes import DType
from pyserving.platforms.folder_loader import size_of_files
from pyserving.platforms.tensorflow.checkpoint_index import read_variables
from pyserving.platforms.tensorflow.library import is_installed, tensorflow
from pyserving.platforms.tensorflow.op_library import load_op_libraries
from pyserving.platforms.tensorflow.saved_model import SAVED_MODEL_FILE, check_folder
from pyserving.platforms.tensorflow.status import Status
from pyserving.protos.messages import POOL, FingerprintDef, MetaGraphDef, SavedModel, SignatureDef, TensorInfo
from pyserving.sources.os_errors import serving_error

_TEXT_FILE = "saved_model.pbtxt"
_FINGERPRINT_FILE = "fingerprint.pb"
_ASSETS = "assets"


def describe_saved_model(folder: str, *, op_libraries: Sequence[str] = ()) -> Description:
    """All graphs of the SavedModel in ``folder``. ``op_libraries`` have the operations that TensorFlow has not.

    Raises ServingError: NOT_FOUND where there is none, INVALID_ARGUMENT for a damaged file.
    """
    saved_model = _read(folder)
    load_op_libraries(op_libraries)
    graphs = [_graph(meta_graph) for meta_graph in saved_model.meta_graphs]
    variables = read_variables(folder)
    return Description(
        path=folder,
        platform="tensorflow",
        size_bytes=size_of_files(folder),
        graphs=sorted(graphs, key=lambda graph: list(graph.tags)),
        variables=Variables(
            len(variables), sum(prod(each.shape) for each in variables), sum(each.size for each in variables)
        ),
        fingerprint=_fingerprint(folder),
    )


def read_tag_sets(folder: str) -> list[Collection[str]]:
    """The tags of each graph. Raises as ``describe_saved_model`` does."""
    return [frozenset(meta_graph.meta_info_def.tags) for meta_graph in _read(folder).meta_graphs]


def _read(folder: str) -> SavedModel:
    check_folder(folder)
    path = os.path.join(folder, SAVED_MODEL_FILE)
    text_path = os.path.join(folder, _TEXT_FILE)
    try:
        if os.path.exists(path):
            with open(path, "rb") as file:
                return SavedModel.FromString(file.read())
        if os.path.exists(text_path):
            with open(text_path, encoding="utf-8") as text:
                return text_format.Parse(text.read(), SavedModel(), allow_unknown_field=True, descriptor_pool=POOL)
    except OSError as error:
        raise serving_error(error.filename or folder, error) from None
    except (DecodeError, text_format.ParseError, UnicodeDecodeError):
        raise invalid_argument(f"{path} is no SavedModel, or not a whole one") from None
    raise ServingError(Code.UNIMPLEMENTED, f"{folder} holds its SavedModel in pieces, which cannot be shown")


def _graph(meta_graph: MetaGraphDef) -> GraphDescription:
    graph, info = meta_graph.graph_def, meta_graph.meta_info_def
    ops = Counter(node.op for node in graph.node)
    for function in graph.library.function:
        ops.update(node.op for node in function.node_def)
    functions = sorted(function.signature.name for function in graph.library.function)
    for name in functions:  # a call of a function may be written as a node of that operation
        ops.pop(name, None)
    return GraphDescription(
        signatures={name: _signature(meta_graph.signature_def[name]) for name in sorted(meta_graph.signature_def)},
        tags=sorted(info.tags),
        ops=dict(sorted(ops.items())),
        not_registered=_not_registered(ops),
        functions=functions,
        assets=sorted({f"{_ASSETS}/{asset.filename}" for asset in meta_graph.asset_file_def}),
        producer=f"TensorFlow {info.tensorflow_version}" if info.tensorflow_version else "",
    )


def _not_registered(ops: Collection[str]) -> list[str] | None:
    """Those that the installed TensorFlow does not know; None where none is installed."""
    if not is_installed():
        return None
    tf = tensorflow()
    found = []
    with Status(tf) as status:
        for op in sorted(ops):
            tf.op_is_stateful(op.encode(), status.address)
            if tf.get_code(status.address):
                found.append(op)
    return found


def _signature(definition: SignatureDef) -> SignatureDescription:
    def described(infos: Mapping[str, TensorInfo]) -> dict[str, TensorDescription]:
        return {
            name: _tensor(infos[name], optional=name in definition.defaults and infos is definition.inputs)
            for name in sorted(infos)
        }

    return SignatureDescription(described(definition.inputs), described(definition.outputs), definition.method_name)


def _tensor(info: TensorInfo, *, optional: bool) -> TensorDescription:
    try:
        dtype = dtype_name(DType(info.dtype))
    except ValueError:
        dtype = f"number {info.dtype}"
    shape = None
    if info.HasField("tensor_shape") and not info.tensor_shape.unknown_rank:
        shape = tuple(dim.size for dim in info.tensor_shape.dim)
    encoding = {"coo_sparse": "sparse", "composite_tensor": "composite"}.get(info.WhichOneof("encoding") or "", DENSE)
    return TensorDescription(dtype, shape, info.name, encoding, optional)


def _fingerprint(folder: str) -> dict[str, str]:
    """What ``fingerprint.pb`` has, numbers as TensorFlow prints them; nothing where it is missing or damaged."""
    try:
        with open(os.path.join(folder, _FINGERPRINT_FILE), "rb") as file:
            read = FingerprintDef.FromString(file.read())
    except (OSError, DecodeError):
        return {}
    return {field.name: str(value) for field, value in read.ListFields() if field.name != "version"}
