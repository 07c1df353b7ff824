"""Builds the small SavedModels that the tests serve, with real TensorFlow:  python models.py FOLDER

Run by the fixture ``models_folder`` of conftest.py in a process of its own, so that no test imports tensorflow.
Every weight is a constant, so that each build gives the same answers. Each function below builds the model of its
name, all its versions, in the folder it is given.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import tensorflow as tf

v1 = tf.compat.v1
F = tf.float32
MODELS: dict[str, Callable[[Path], None]] = {}


def model(build: Callable[[Path], None]) -> Callable[[Path], None]:
    MODELS[build.__name__] = build
    return build


def signature(specs: Sequence[tuple[str, Any, Any]], body: Callable[..., dict[str, Any]]) -> Any:
    """A function with inputs (name, shape, dtype) that returns its outputs by name."""
    return tf.function(body, input_signature=[tf.TensorSpec(shape, dtype, name) for name, shape, dtype in specs])


def save(folder: Path, version: str, signatures: dict[str, Any], module: Any = None) -> None:
    tf.saved_model.save(module or tf.Module(), str(folder / version), signatures=signatures)


def save_tf1(folder: Path, version: str, graphs: dict[tuple[str, ...], Callable[[Any], dict[str, Any]]]) -> None:
    """A graph per set of tags. Each function builds its graph and returns {name: (inputs, outputs, method)}."""
    builder = v1.saved_model.Builder(str(folder / version))
    for position, (tags, build) in enumerate(graphs.items()):
        with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            definitions = {
                name: v1.saved_model.build_signature_def(
                    {alias: v1.saved_model.build_tensor_info(tensor) for alias, tensor in inputs.items()},
                    {alias: v1.saved_model.build_tensor_info(tensor) for alias, tensor in outputs.items()},
                    f"tensorflow/serving/{method}",
                )
                for name, (inputs, outputs, method) in build(session).items()
            }
            session.run(v1.global_variables_initializer())
            if position == 0:
                builder.add_meta_graph_and_variables(session, list(tags), signature_def_map=definitions)
            else:
                builder.add_meta_graph(list(tags), signature_def_map=definitions)
    builder.save()


@model
def half_plus_two(folder: Path) -> None:
    """TensorFlow Serving's own test model, TF1 style, version 00000123: predict, regress and classify."""

    def build(_: Any) -> dict[str, Any]:
        a = v1.get_variable("a", initializer=0.5)
        b = v1.get_variable("b", initializer=2.0)
        c = v1.get_variable("c", initializer=3.0)
        examples = v1.placeholder(tf.string, name="tf_example")
        features = v1.parse_example(
            examples,
            {"x": v1.FixedLenFeature([1], F), "x2": v1.FixedLenFeature([1], F, default_value=[0.0])},
        )
        y = tf.add(a * features["x"], b)
        y3 = tf.add(a * features["x2"], c)
        x = v1.placeholder(F, [None, 1], name="x")
        return {
            "serving_default": ({"x": x}, {"y": tf.add(a * x, b, name="y")}, "predict"),
            "regress_x_to_y": ({"inputs": examples}, {"outputs": y}, "regress"),
            "regress_x2_to_y3": ({"inputs": examples}, {"outputs": y3}, "regress"),
            "classify_x_to_y": ({"inputs": examples}, {"scores": y}, "classify"),
        }

    save_tf1(folder, "00000123", {("serve",): build})


def _linear(folder: Path, version: str, a: float, b: float) -> None:
    module = tf.Module()
    module.a, module.b = tf.Variable(a, dtype=F), tf.Variable(b, dtype=F)
    save(
        folder,
        version,
        {"serving_default": signature([("x", [None], F)], lambda x: {"y": module.a * x + module.b})},
        module,
    )


@model
def half_plus_two_tf2(folder: Path) -> None:
    """y = x / 2 + 2 for a vector of floats."""
    _linear(folder, "1", 0.5, 2.0)


@model
def half_plus_three(folder: Path) -> None:
    """Two versions: y = x / 2 + 3 and y = x / 2 + 30."""
    _linear(folder, "1", 0.5, 3.0)
    _linear(folder, "2", 0.5, 30.0)


@model
def versioned(folder: Path) -> None:
    """Versions 1, 2 and 3, each of which answers its number, and adds ten times that to what it is given."""
    for number in (1, 2, 3):
        module = tf.Module()
        module.number = tf.Variable(number, dtype=tf.int64)

        def body(x: Any, module: Any = module) -> dict[str, Any]:
            number = module.number.read_value()
            return {"version": tf.fill(tf.shape(x), number), "y": x + 10.0 * tf.cast(number, tf.float32)}

        save(folder, str(number), {"serving_default": signature([("x", [None], F)], body)}, module)


DTYPES = [
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "bool", "string", "complex64", "complex128", "qint8", "quint8", "qint16", "quint16", "qint32",
    "float8_e5m2", "float8_e4m3fn", "int4", "uint4",
]  # fmt: skip


@model
def dtypes(folder: Path) -> None:
    """Signatures echo_<dtype> that answer what they are fed, of any shape."""
    save(
        folder,
        "1",
        {
            f"echo_{name}": signature([("x", None, tf.dtypes.as_dtype(name))], lambda x: {"y": tf.identity(x)})
            for name in DTYPES
        },
    )


@model
def strings(folder: Path) -> None:
    """Text in, text out."""
    save(
        folder,
        "1",
        {
            "serving_default": signature(
                [("text", [None], tf.string)],
                lambda text: {
                    "upper": tf.strings.upper(text),
                    "copy_bytes": tf.identity(text),
                    "length": tf.strings.length(text),
                },
            ),
            "join": signature(
                [("pair", [None, 2], tf.string)],
                lambda pair: {"joined": tf.strings.reduce_join(pair, axis=1, separator="-")},
            ),
        },
    )


@model
def counter(folder: Path) -> None:
    """State: ``add`` and ``set`` change it, ``serving_default`` reads it, ``random`` draws numbers."""
    module = tf.Module()
    module.n = tf.Variable(0, dtype=tf.int64, trainable=False)
    save(
        folder,
        "1",
        {
            "serving_default": signature(
                [("x", [None], F)], lambda x: {"count": tf.fill(tf.shape(x)[:1], module.n.read_value())}
            ),
            "add": signature(
                [("by", [None], tf.int64)], lambda by: {"count": module.n.assign_add(tf.reduce_sum(by) + 1)[None]}
            ),
            "set": signature(
                [("to", [None], tf.int64)], lambda to: {"count": module.n.assign(tf.reduce_max(to) + 1)[None]}
            ),
            "random": signature([("x", [None], F)], lambda x: {"y": tf.random.uniform(tf.shape(x), seed=1)}),
        },
        module,
    )


ALIASED_SIZE = 50_000


@model
def aliasing(folder: Path) -> None:
    """Variables whose memory may be that of what was fed or of what was answered; ``values`` has 200 kB."""
    module = tf.Module()
    module.values = tf.Variable(tf.zeros([ALIASED_SIZE]))
    module.text = tf.Variable(["initial"] * 3, shape=[None], trainable=False)
    module.last = tf.Variable([0.0], shape=[None], trainable=False)
    module.last_but_one = tf.Variable([0.0], shape=[None], trainable=False)

    def put(x: Any) -> dict[str, Any]:
        module.values.assign(x)
        return {"y": tf.identity(x)}

    def put_text(x: Any) -> dict[str, Any]:
        module.text.assign(x)
        return {"y": tf.identity(x)}

    def push(x: Any) -> dict[str, Any]:
        module.last_but_one.assign(module.last)
        module.last.assign(x)
        return {"last_but_one": module.last_but_one.read_value()}

    def add(by: Any) -> dict[str, Any]:
        return {"first": module.values.assign_add(tf.fill([ALIASED_SIZE], by))[0]}

    def scatter(index: Any, value: Any) -> dict[str, Any]:
        module.values.scatter_nd_update(index[:, None], value)
        return {"first": module.values[0]}

    save(
        folder,
        "1",
        {
            "put": signature([("x", [ALIASED_SIZE], F)], put),
            "push": signature([("x", [None], F)], push),
            "put_text": signature([("x", [None], tf.string)], put_text),
            "read": signature([], lambda: {"y": module.values.read_value()}),
            "read_text": signature([], lambda: {"y": module.text.read_value()}),
            "echo": signature([("x", [ALIASED_SIZE], F)], lambda x: {"y": tf.identity(x)}),
            "add": signature([("by", [], F)], add),
            "scatter": signature([("index", [None], tf.int32), ("value", [None], F)], scatter),
        },
        module,
    )


@model
def reference_variable(folder: Path) -> None:
    """TF1: a variable of 200 kB that is written in place, under the eyes of whoever has read it."""

    def build(_: Any) -> dict[str, Any]:
        values = v1.get_variable("values", initializer=tf.zeros([ALIASED_SIZE]), use_resource=False)
        by = v1.placeholder(F, [], name="by")
        return {
            "read": ({}, {"y": tf.identity(values)}, "predict"),
            "add": ({"by": by}, {"first": v1.assign_add(values, tf.fill([ALIASED_SIZE], by + 1.0))[0]}, "predict"),
        }

    save_tf1(folder, "1", {("serve",): build})


@model
def failing(folder: Path) -> None:
    """Signatures that fail for some inputs."""

    def positive(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, message="x must be positive", summarize=4)]):
            return {"root": tf.sqrt(x)}

    save(
        folder,
        "1",
        {
            "serving_default": signature([("x", [None], F)], positive),
            "divide": signature([("a", [None], tf.int32), ("b", [None], tf.int32)], lambda a, b: {"quotient": a // b}),
            "fold": signature([("x", [None], F)], lambda x: {"y": tf.reshape(x, [-1, 3])}),
            "quote": signature([("text", [None], tf.string)], lambda text: {"value": tf.strings.to_number(text)}),
        },
    )


@model
def slow(folder: Path) -> None:
    """Runs that take as long as a test wants.

    ``serving_default`` counts to ``steps`` in a loop, a few microseconds each; ``wait`` runs until another run has
    set the gate open: ``gate`` sets it (1 open, as it is at first, 0 shut).
    """
    module = tf.Module()
    module.gate = tf.Variable(1, dtype=tf.int32, trainable=False)

    def count(steps: Any) -> dict[str, Any]:
        return {"steps": tf.while_loop(lambda i: i < steps, lambda i: [i + 1], [tf.constant(0, tf.int64)])[0]}

    def wait(x: Any) -> dict[str, Any]:
        rounds = tf.while_loop(
            lambda _: tf.equal(module.gate.read_value(), 0), lambda i: [i + 1], [tf.constant(0, tf.int64)]
        )[0]
        with tf.control_dependencies([rounds]):
            return {"y": tf.identity(x)}

    save(
        folder,
        "1",
        {
            "serving_default": signature([("steps", [], tf.int64)], count),
            "wait": signature([("x", [None], F)], wait),
            "gate": signature([("to", [], tf.int32)], lambda to: {"gate": module.gate.assign(to).read_value()}),
        },
        module,
    )


@model
def vocabulary(folder: Path) -> None:
    """A lookup table read from an asset: words to their line numbers."""
    words = folder / "vocabulary.txt"
    folder.mkdir(parents=True, exist_ok=True)
    words.write_text("bad\ngood\nnaïve\n", encoding="utf-8")
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(words))
    module.table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            module.asset,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        num_oov_buckets=1,
    )
    lookup = signature([("word", [None], tf.string)], lambda word: {"id": module.table.lookup(word)})
    save(folder, "1", {"serving_default": lookup}, module)
    words.unlink()


@model
def two_tags(folder: Path) -> None:
    """Two graphs: one tagged serve, which doubles, one tagged serve and gpu, which triples."""

    def times(factor: float) -> Callable[[Any], dict[str, Any]]:
        def build(_: Any) -> dict[str, Any]:
            by = v1.get_variable("by", initializer=1.0)
            x = v1.placeholder(F, [None], name="x")
            return {"serving_default": ({"x": x}, {"y": factor * by * x}, "predict")}

        return build

    save_tf1(folder, "1", {("serve",): times(2.0), ("serve", "gpu"): times(3.0)})


@model
def with_defaults(folder: Path) -> None:
    """y = x * scale, and scale is 10 where it is left out."""
    body = signature([("x", [None], F), ("scale", [], F)], lambda x, scale: {"y": x * scale})
    save(folder, "1", {"serving_default": body})
    # The exporter offers no plain way to say it, so write it into the message.
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    defaults = saved.meta_graphs[0].signature_def["serving_default"].defaults
    defaults["scale"].CopyFrom(tf.make_tensor_proto(10.0, F))
    file.write_bytes(saved.SerializeToString(deterministic=True))


@model
def scalars(folder: Path) -> None:
    """Signatures with tensors of no dimension, and one with no input."""
    save(
        folder,
        "1",
        {
            "serving_default": signature([("x", [], F)], lambda x: {"y": 2.0 * x}),
            "mixed": signature([("x", [None], F)], lambda x: {"y": x + 1.0, "total": tf.reduce_sum(x)}),
            "text": signature([("s", [], tf.string)], lambda s: {"shout": tf.strings.upper(s)}),
            "no_inputs": signature([], lambda: {"answer": tf.constant([42], tf.int32)}),
        },
    )


@model
def unknown_rank(folder: Path) -> None:
    """y = 2 x for x of any shape."""
    save(folder, "1", {"serving_default": signature([("x", None, F)], lambda x: {"y": 2.0 * x})})


@model
def dims(folder: Path) -> None:
    """More dimensions than the batch one, and two inputs that must agree in it."""
    save(
        folder,
        "1",
        {
            "serving_default": signature(
                [("x", [None, 2, 3], F)], lambda x: {"doubled": 2.0 * x, "total": tf.reduce_sum(x, axis=[1, 2])}
            ),
            "two": signature([("a", [None, 2], F), ("b", [None, 2], F)], lambda a, b: {"sum": a + b}),
        },
    )


@model
def flowers(folder: Path) -> None:
    """A classifier and a regressor of tf.Example: bytes ``name``, int64 ``count``, float ``size`` (two of them)."""
    module = tf.Module()
    module.labels = tf.Variable(["iris", "rose", "tulip"], trainable=False)
    module.weights = tf.Variable([[0.5, -0.25, 0.0], [0.125, 0.5, -1.0]], dtype=F)

    def scores(inputs: Any) -> Any:
        features = {
            "name": tf.io.FixedLenFeature([], tf.string),
            "count": tf.io.FixedLenFeature([], tf.int64, default_value=0),
            "size": tf.io.FixedLenFeature([2], F, default_value=[0.0, 0.0]),
        }
        parsed = tf.io.parse_example(inputs, features)
        counted = tf.cast(parsed["count"], F)[:, None] * tf.constant([[0.0, 0.5, 0.25]])
        named = tf.cast(tf.strings.length(parsed["name"]), F)[:, None] * tf.constant([[0.25, 0.0, 0.0]])
        return tf.matmul(parsed["size"], module.weights) + named + counted

    def classify(inputs: Any) -> dict[str, Any]:
        found = scores(inputs)
        return {"classes": tf.tile(module.labels[None, :], [tf.shape(found)[0], 1]), "scores": found}

    inputs = [("inputs", [None], tf.string)]
    save(
        folder,
        "1",
        {
            "serving_default": signature(inputs, classify),
            "regress": signature(inputs, lambda inputs: {"outputs": tf.reduce_sum(scores(inputs), axis=1)}),
        },
        module,
    )


@model
def strange_method(folder: Path) -> None:
    """y = 2 x, in a signature that says it is for a method that nobody knows."""

    def build(_: Any) -> dict[str, Any]:
        x = v1.placeholder(F, [None], name="x")
        return {"serving_default": ({"x": x}, {"y": x * v1.get_variable("two", initializer=2.0)}, "strange")}

    save_tf1(folder, "1", {("serve",): build})


@model
def text_ops(folder: Path) -> None:
    """Splits text at spaces, by an operation of tensorflow-text; not built where that is not installed."""
    found = importlib.util.find_spec("tensorflow_text")  # finds, does not import: it needs more than its operations
    if found is None or not found.submodule_search_locations:
        return
    library = Path(found.submodule_search_locations[0], "python", "ops", "_regex_split_ops.so")
    ops = tf.load_op_library(str(library))

    def split(text: Any) -> dict[str, Any]:
        tokens, _, _, rows = ops.regex_split_with_offsets(
            input=text, delim_regex_pattern="( +)", keep_delim_regex_pattern=""
        )
        return {"tokens": tokens, "row_splits": rows}

    save(folder, "1", {"serving_default": signature([("text", [None], tf.string)], split)})


@model
def initialised(folder: Path) -> None:
    """TF1: a table and a number that an init op fills: version 1 has it as main_op, version 2 as legacy_init_op."""
    for version, key in (("1", "main_op"), ("2", "legacy_init_op")):
        with tf.Graph().as_default(), v1.Session() as session:
            words, ids = tf.constant(["one", "two"]), tf.constant([1, 2], tf.int64)
            table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, ids), default_value=-1)
            offset = v1.get_variable("offset", initializer=tf.constant(0, tf.int64))
            word = v1.placeholder(tf.string, [None], name="word")
            definition = v1.saved_model.build_signature_def(
                {"word": v1.saved_model.build_tensor_info(word)},
                {"id": v1.saved_model.build_tensor_info(table.lookup(word) + offset)},
                "tensorflow/serving/predict",
            )
            init = tf.group(v1.tables_initializer(), offset.assign(10))
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.Builder(str(folder / version))
            builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": definition}, **{key: init})
            builder.save()


@model
def classify_numbers(folder: Path) -> None:
    """TF1: signatures for Classify and Regress, of numbers, not of tf.Example; and one of text of any kind."""

    def build(_: Any) -> dict[str, Any]:
        x = v1.placeholder(F, [None, 2], name="x")
        text = v1.placeholder(tf.string, [None], name="text")
        weights = v1.get_variable("weights", initializer=[[1.0, 0.0], [0.0, 2.0]])
        length = tf.cast(tf.strings.length(text), F)
        return {
            "serving_default": ({"inputs": x}, {"scores": tf.matmul(x, weights)}, "classify"),
            "regress": ({"inputs": x}, {"outputs": tf.reduce_sum(x, axis=1)}, "regress"),
            "length": ({"inputs": text}, {"outputs": length}, "regress"),
        }

    save_tf1(folder, "1", {("serve",): build})


LARGE_BYTES = 100_000_000


@model
def reductions(folder: Path) -> None:
    """Little comes out, however much goes in; ``copy`` gives all back."""
    x = [("x", [None, None], F)]
    text = [("text", [None], tf.string)]
    signatures = {
        "serving_default": signature(x, lambda x: {"total": tf.reduce_sum(x, axis=1)}),
        "lengths": signature(text, lambda text: {"length": tf.strings.length(text)}),
        "copy": signature(x, lambda x: {"y": tf.identity(x)}),
        "copy_bytes": signature(text, lambda text: {"y_bytes": tf.identity(text)}),
    }
    save(folder, "1", signatures)


@model
def large(folder: Path) -> None:
    """A variable of 100 MB."""
    module = tf.Module()
    module.values = tf.Variable(tf.range(LARGE_BYTES // 4, dtype=F))
    total = signature([("scale", [], F)], lambda scale: {"max": scale * tf.reduce_max(module.values)})
    save(folder, "1", {"serving_default": total}, module)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    for name, build in MODELS.items():
        build(root / name)
