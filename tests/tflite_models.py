"""Builds the small .tflite models that the tests serve, with TensorFlow's converter:  python tflite_models.py FOLDER

Run by the fixture ``tflite_folder`` in a process of its own, so that no test imports tensorflow. Each model is
NAME/1/model.tflite; where NAME/answers.pickle stands beside it, it has what TensorFlow itself computed, as a list of
(signature, inputs, outputs). Every weight is a constant, so that each build gives the same answers.
"""

import os
import pickle
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import flatbuffers
import ml_dtypes
import numpy as np
import tensorflow as tf
from flatbuffers import flexbuffers
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.lite.python import schema_py_generated as schema

F = tf.float32
Case = tuple[str, Mapping[str, Any]]

CONVERTED_DTYPES = (
    tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int8, tf.uint8, tf.int16, tf.uint16, tf.int32, tf.uint32,
    tf.int64, tf.uint64, tf.bool, tf.complex64, tf.complex128,
)  # fmt: skip
# Written into the file of an int8 model, for not every TensorFlow converts them. Numbers are the schema's.
PATCHED_DTYPES = {
    "int4": (17, ml_dtypes.int4),
    "uint4": (20, ml_dtypes.uint4),
    "float8_e4m3fn": (21, ml_dtypes.float8_e4m3fn),
    "float8_e5m2": (22, ml_dtypes.float8_e5m2),
}


def signature(specs: Sequence[tuple[str, Any, Any]], body: Any) -> Any:
    return tf.function(body, input_signature=[tf.TensorSpec(shape, dtype, name) for name, shape, dtype in specs])


def write(folder: Path, name: str, content: bytes, answers: list[Any] | None = None) -> bytes:
    version = folder / name / "1"
    version.mkdir(parents=True)
    (version / "model.tflite").write_bytes(content)
    if answers is not None:
        (folder / name / "answers.pickle").write_bytes(pickle.dumps(answers))
    return content


def convert(
    folder: Path, name: str, signatures: dict[str, Any], cases: Sequence[Case] = (), module: Any = None, **settings: Any
) -> bytes:
    """Converts the signatures, and asks TensorFlow for the answers to the cases."""
    with tempfile.TemporaryDirectory() as saved_model:
        tf.saved_model.save(module or tf.Module(), saved_model, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=list(signatures))
        for setting, value in settings.items():
            setattr(converter, setting, value)
        content = converter.convert()
    answers = [
        (key, inputs, {alias: to_array(t) for alias, t in signatures[key](**to_tensors(inputs)).items()})
        for key, inputs in cases
    ]
    return write(folder, name, content, answers)


def to_tensors(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {alias: tf.constant(array.tolist() if array.dtype == object else array) for alias, array in inputs.items()}


def to_array(tensor: Any) -> np.ndarray:
    return np.array(tensor.numpy(), object if tensor.dtype == tf.string else None)


def changed(content: bytes, change: Any) -> bytes:
    """The file after ``change`` was applied to its ModelT."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(content)))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def floats(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 3) / 4


def build_linear(folder: Path) -> None:
    weights = tf.constant(floats(3, 2))
    dense = signature([("x", [None, 3], F)], lambda x: {"y": x @ weights})
    scale = signature([("x", [None, 3], F), ("k", [], F)], lambda x, k: {"scaled": x * k, "total": tf.reduce_sum(x)})
    k = np.array(2.5, np.float32)
    content = convert(
        folder,
        "linear",
        {"serving_default": dense, "scale": scale},
        [
            *(("serving_default", {"x": floats(rows, 3)}) for rows in (1, 2, 7, 0, 1)),
            *(("scale", {"x": floats(rows, 3), "k": k}) for rows in (1, 5)),
        ],
    )
    metadata = {
        "serving_default": ({"a": "scale_x:0", "b": "scale_k:0"}, {"c": "PartitionedCall:0"}),
        "total": ({"a": "scale_x:0", "b": "scale_k:0"}, {"d": "PartitionedCall:1"}),
    }
    write(folder, "metadata", changed(content, lambda model: add_metadata(model, metadata)))
    write(
        folder,
        "metadata_unknown_tensor",
        changed(content, lambda model: add_metadata(model, {"serving_default": ({"a": "nosuch:0"}, {})})),
    )
    write(
        folder,
        "metadata_input_left_out",
        changed(
            content,
            lambda model: add_metadata(model, {"serving_default": ({"a": "scale_x:0"}, {"c": "PartitionedCall:0"})}),
        ),
    )
    # Without an object that the function belongs to, the converter writes no signatures.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([scale.get_concrete_function()])
    write(folder, "tensors_only", converter.convert())


def add_metadata(model: Any, signatures: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]]) -> None:
    """As ``SetSignatureDefMap`` of TensorFlow Lite's tools writes them."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, (inputs, outputs) in sorted(signatures.items()):
            message = meta_graph_pb2.SignatureDef(
                inputs={alias: meta_graph_pb2.TensorInfo(name=tensor, dtype=1) for alias, tensor in inputs.items()},
                outputs={alias: meta_graph_pb2.TensorInfo(name=tensor, dtype=1) for alias, tensor in outputs.items()},
                method_name="tensorflow/serving/predict",
            )
            builder.String(name, message.SerializeToString().decode())
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(bytes(builder.Finish()), np.uint8)
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = "signature_defs_metadata", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(metadata)


def build_shapes(folder: Path) -> None:
    weights = tf.constant(floats(3, 2))
    fixed = signature([("x", [1, 3], F)], lambda x: {"y": x @ weights})
    convert(folder, "fixed_batch", {"serving_default": fixed}, [("serving_default", {"x": floats(1, 3)})])
    any_rank = signature([("x", None, F)], lambda x: {"y": x + 1.0})
    shapes: tuple[tuple[int, ...], ...] = ((), (2,), (2, 3), (1, 2, 3))
    cases = [("serving_default", {"x": floats(*shape) if shape else np.array(1.5, np.float32)}) for shape in shapes]
    convert(folder, "any_rank", {"serving_default": any_rank}, cases)
    turns = signature(
        [("n", [None], tf.int32)],
        lambda n: {"turns": tf.while_loop(lambda i: tf.reduce_any(i < n), lambda i: [i + 1], [tf.zeros_like(n)])[0]},
    )
    convert(folder, "loop", {"serving_default": turns}, [("serving_default", {"n": np.array([3], np.int32)})])
    together = signature(
        [("x", [None], F), ("z", [None], F), ("i", [None], tf.int32)],
        lambda x, z, i: {"sum": x + z, "taken": tf.gather(x, i)},
    )
    convert(
        folder,
        "together",
        {"serving_default": together},
        [("serving_default", {"x": floats(4), "z": floats(4), "i": np.array([3, 0], np.int32)})],
    )


def build_dtypes(folder: Path) -> None:
    for dtype in CONVERTED_DTYPES:
        flat = signature([("x", [None, 2], dtype)], lambda x: {"y": tf.reshape(x, [-1])})
        x = np.array([[0, 1], [2, 100]]).astype(dtype.as_numpy_dtype)
        content = convert(folder, f"dtype_{dtype.name}", {"serving_default": flat}, [("serving_default", {"x": x})])
        if dtype == tf.int8:
            bytes_content = content
    for name, (number, numpy_dtype) in PATCHED_DTYPES.items():
        x = np.array([[0, 1], [2, 3]]).astype(numpy_dtype)
        answers = [("serving_default", {"x": x}, {"y": x.reshape(-1)})]
        write(folder, f"dtype_{name}", changed(bytes_content, lambda model, n=number: set_type(model, n)), answers)
    write(folder, "dtype_resource", changed(bytes_content, lambda model: set_type(model, schema.TensorType.RESOURCE)))

    def backwards(s: Any) -> dict[str, Any]:
        last = tf.shape(s)[0] - 1
        return {"backwards": tf.gather(s, tf.range(last, -1, -1)), "count": tf.shape(s)[0]}

    strings = [[b"one"], [b"a\0b", b"", b"\xff\xfe", "é".encode(), b"z\0"], [b"x" * 70_000, b"y"]]
    text = signature([("s", [None], tf.string)], backwards)
    cases = [("serving_default", {"s": np.array(row, object)}) for row in strings]
    convert(folder, "dtype_string", {"serving_default": text}, cases)
    scalar = signature([("s", [], tf.string)], lambda s: {"t": tf.reshape(s, [])})
    cases = [("serving_default", {"s": np.array(text, object)}) for text in (b"\0 a\0", b"", "é".encode())]
    convert(folder, "string_scalar", {"serving_default": scalar}, cases)


def set_type(model: Any, number: int) -> None:
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT8:
            tensor.type = number


def build_networks(folder: Path) -> None:
    tf.keras.utils.set_random_seed(7)
    layers = tf.keras.layers
    cnn = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    content = tf.lite.TFLiteConverter.from_keras_model(cnn).convert()
    images = [floats(rows, 8, 8, 1) / 16 for rows in (1, 3, 1)]
    write(folder, "cnn", content, [("serving_default", {"image": i}, {"output_0": cnn(i).numpy()}) for i in images])
    # The variables are not the module's, so the converter drops their values.
    classify = signature([("image", [None, 8, 8, 1], F)], lambda image: {"scores": cnn(image)})
    convert(folder, "variables_lost", {"serving_default": classify}, module=cnn)

    converter = tf.lite.TFLiteConverter.from_keras_model(cnn)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([floats(1, 8, 8, 1) * scale] for scale in (0.1, 0.5, 1.0))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    content = converter.convert()
    image = np.arange(64, dtype=np.int8).reshape(1, 8, 8, 1)
    write(folder, "quantised", content, [("serving_default", {"image": image}, tf_lite_answers(content, image=image))])


def tf_lite_answers(content: bytes, **inputs: Any) -> dict[str, Any]:
    """What TensorFlow's own interpreter computes with its reference kernels, for what TensorFlow cannot run itself."""
    interpreter = tf.lite.Interpreter(
        model_content=content,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    return dict(interpreter.get_signature_runner("serving_default")(**inputs))


def build_states(folder: Path) -> None:
    module = tf.Module()
    module.n = tf.Variable(0.0)

    def count(by: Any) -> dict[str, Any]:
        module.n.assign_add(by)
        return {"n": module.n.read_value()}

    convert(
        folder,
        "counter",
        {"serving_default": signature([("by", [], F)], count)},
        module=module,
        experimental_enable_resource_variables=True,
    )
    write(folder, "recurrent", recurrent())


def recurrent() -> bytes:
    """A recurrent cell whose state is a variable tensor, as converters of TensorFlow 1 made them."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description = 3, "recurrent cell"
    model.buffers = [schema.BufferT()]
    graph.tensors = []
    for name, shape, values in (
        ("input", (1, 2), None),
        ("weights", (2, 2), [1, 0, 0, 1]),
        ("recurrent_weights", (2, 2), [1, 0, 0, 1]),
        ("bias", (2,), [0, 0]),
        ("state", (1, 2), None),
        ("output", (1, 2), None),
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, np.array(shape, np.int32), schema.TensorType.FLOAT32
        tensor.isVariable = name == "state"
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.array(values, np.float32).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RNN
    code.version = 1
    model.operatorCodes = [code]
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = np.arange(5, dtype=np.int32), np.array([5], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.RNNOptions
    operator.builtinOptions = schema.RNNOptionsT()
    graph.operators = [operator]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([5], np.int32)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def build_foreign_ops(folder: Path) -> None:
    spec = tf.lite.TargetSpec()
    spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    inverse = signature([("m", [None, 2, 2], F)], lambda m: {"inverse": tf.linalg.inv(m)})
    convert(folder, "flex_op", {"serving_default": inverse}, target_spec=spec)
    convert(folder, "custom_op", {"serving_default": inverse}, allow_custom_ops=True)


def main(folder: Path) -> None:
    for build in (
        build_linear, build_shapes, build_dtypes, build_networks, build_states, build_foreign_ops,
    ):  # fmt: skip
        build(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
