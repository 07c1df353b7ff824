"""Describes a version of whatever platform."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import cast
from xml.etree import ElementTree

from pyserving.core.errors import Code, ServingError
from pyserving.core.servable import ServableId
from pyserving.inspection.description import Description, GraphDescription, describe_signature
from pyserving.inspection.saved_model import describe_saved_model
from pyserving.platforms.folder_loader import size_of_files
from pyserving.platforms.model import Model
from pyserving.platforms.onnx.model import FILE_NAME as ONNX_FILE
from pyserving.platforms.onnx.op_types import count_op_types
from pyserving.platforms.openvino.ir import FILE_NAME as OPENVINO_FILE
from pyserving.platforms.platform import PlatformContext
from pyserving.platforms.registry import Platforms
from pyserving.platforms.tensorflow.saved_model import is_saved_model
from pyserving.platforms.tflite.litert import litert
from pyserving.platforms.tflite.model_file import count_operators, read_content, read_model_file

_NOTHING = (
    "expected a folder with a model (saved_model.pb, model.tflite, model.onnx, model.xml, model.py, table.csv, "
    "table.tsv, table.parquet or table.txt), or such a file"
)


def describe(folder: str, context: PlatformContext, *, op_libraries: Sequence[str] = ()) -> Description:
    """The version in ``folder``. A SavedModel is read; anything else is loaded, as ``context`` allows.

    Raises ServingError: NOT_FOUND where no platform recognises anything, and whatever a load does.
    """
    if is_saved_model(folder):
        return describe_saved_model(folder, op_libraries=op_libraries)
    platforms = Platforms(context)
    platform = platforms.platform_of(folder)
    if platform is None:
        raise ServingError(Code.NOT_FOUND, f"found no model in {folder}: {_NOTHING}")
    loader = platforms.loader(ServableId("model", 1), folder, platform)
    model = cast("Model", loader.load())
    try:
        signatures = {name: describe_signature(signature) for name, signature in model.signatures.items()}
    finally:
        loader.unload()
    graph = GraphDescription(dict(sorted(signatures.items())))
    return Description(folder, platform, size_of_files(folder), [_with_operations(graph, folder, platform)])


def _with_operations(graph: GraphDescription, folder: str, platform: str) -> GraphDescription:
    """Only of what is known to load, so its files can be read."""
    match platform:
        case "tflite":
            content = read_content(folder)
            counts, custom = count_operators(litert(), content), read_model_file(litert(), content).custom_ops
            return replace(graph, ops=dict(sorted(counts.items())), not_registered=custom)
        case "onnx":
            return replace(graph, ops=dict(sorted(count_op_types(os.path.join(folder, ONNX_FILE)).items())))
        case "openvino":
            layers = ElementTree.parse(os.path.join(folder, OPENVINO_FILE)).getroot().iter("layer")
            return replace(graph, ops=dict(sorted(Counter(layer.get("type", "") for layer in layers).items())))
        case _:
            return graph
