"""Builds SavedModels whose rows do, or do not, depend on each other, with real TensorFlow:  python row_models.py FOLDER

``apart`` and ``mixed`` have many small signatures: rows of the first are independent, those of the second are not, or
look as if they might not be. ``tf1_apart`` and ``tf1_mixed`` are the same for graphs without functions. The others are
Keras models of the usual kinds. Run as models.py is.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from models import save, save_tf1, signature

v1 = tf.compat.v1
F, INT, TEXT_TYPE = tf.float32, tf.int32, tf.string

Bodies = dict[str, tuple[list[tuple[str, Any, Any]], Callable[..., Any]]]

VECTOR = [("x", [None], F)]
MATRIX = [("x", [None, 4], F)]
WIDE = [("x", [None, None, 4], F)]
IMAGE = [("x", [None, 6, 6, 2], F)]
PAIR = [("x", [None, 4], F), ("y", [None, 4], F)]
IDS = [("x", [None, 3], INT)]
TEXT = [("x", [None], TEXT_TYPE)]


def weights(*shape: int) -> Any:
    return tf.constant(np.linspace(-1, 2, int(np.prod(shape))).reshape(shape), F)


def batch_of(x: Any) -> Any:
    return tf.shape(x)[0]


def examples(x: Any, **features: Any) -> Any:
    return tf.io.parse_example(x, features)


def module_with_state() -> Any:
    module = tf.Module()
    module.weights = tf.Variable(weights(4, 3))
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64)), -1
    )
    return module


module = module_with_state()

APART: Bodies = {
    "add_broadcast": (PAIR, lambda x, y: x * y + weights(4) - weights(1, 4)),
    "select": (PAIR, lambda x, y: tf.where(x > y, x, tf.zeros_like(y))),
    "select_rows": (PAIR, lambda x, y: v1.where(x[:, 0] > 0, x, y)),
    "vector_and_scalar": (VECTOR, lambda x: tf.math.divide_no_nan(tf.cast(tf.cast(x, INT), F), 3.0)),
    "variable": (MATRIX, lambda x: tf.nn.bias_add(tf.matmul(x, module.weights), weights(3))),
    "matmul_transposed": (MATRIX, lambda x: tf.matmul(x, weights(5, 4), transpose_b=True)),
    "matmul_of_blocks": (WIDE, lambda x: tf.matmul(x, x, transpose_b=True)),
    "matmul_of_blocks_and_fixed": (WIDE, lambda x: tf.matmul(x, weights(1, 4, 5)) + tf.matmul(x, weights(4, 5))),
    "matmul_from_the_left": ([("x", [None, 3, 4], F)], lambda x: tf.matmul(weights(2, 3), x)),
    "einsum": (WIDE, lambda x: tf.einsum("abc,cde->adeb", x, weights(4, 2, 3))),
    "einsum_of_two": (PAIR, lambda x, y: tf.einsum("ab,ab->a", x, y)),
    "tensordot": (WIDE, lambda x: tf.tensordot(x, weights(4, 2), 1)),
    "softmax": (MATRIX, tf.nn.softmax),
    "reductions": (WIDE, lambda x: tf.reduce_max(x, [1, 2]) + tf.reduce_mean(tf.reduce_sum(x, -1), 1)),
    "keepdims": (MATRIX, lambda x: x / tf.reduce_sum(tf.abs(x) + 1.0, axis=1, keepdims=True)),
    "arg_max": (MATRIX, lambda x: tf.argmax(x, axis=1)),
    "cumulated": (MATRIX, lambda x: tf.cumsum(x, axis=1)),
    "reversed": (MATRIX, lambda x: tf.reverse(x, [1])),
    "top": (MATRIX, lambda x: tf.concat([tf.math.top_k(x, 2)[0], tf.cast(tf.math.top_k(x, 2)[1], F)], 1)),
    "joined_and_split": (MATRIX, lambda x: tf.concat([tf.split(x, 2, axis=1)[1], x], axis=1)),
    "split_unevenly": (MATRIX, lambda x: tf.split(x, [1, 3], axis=-1)[1]),
    "stacked": (PAIR, lambda x, y: tf.stack([x, y], axis=1)),
    "unstacked": (MATRIX, lambda x: tf.unstack(x, axis=1)[2]),
    "transposed": (WIDE, lambda x: tf.transpose(x, [0, 2, 1])),
    "padded": (MATRIX, lambda x: tf.pad(x, [[0, 0], [2, 1]], constant_values=9.0)),
    "tiled": (MATRIX, lambda x: tf.tile(x, [1, 3])),
    "token_for_each_row": (WIDE, lambda x: tf.concat([tf.tile(weights(1, 1, 4), [batch_of(x), 1, 1]), x], axis=1)),
    "zeros_for_each_row": (MATRIX, lambda x: tf.concat([tf.zeros([batch_of(x), 2]), x], axis=1)),
    "broadcast_to_each_row": (MATRIX, lambda x: tf.broadcast_to(weights(4), tf.shape(x)) + x),
    "sliced": (WIDE, lambda x: x[:, :1, ::-1]),
    "sliced_by_ellipsis": (WIDE, lambda x: x[..., 1:3]),
    "new_dimension": (MATRIX, lambda x: x[:, tf.newaxis] + weights(2, 4)),
    "last_of_each_row": (WIDE, lambda x: x[:, -1, :]),
    "slice_operation": (MATRIX, lambda x: tf.slice(x, [0, 1], [-1, 2])),
    "flattened": (IMAGE, lambda x: tf.reshape(x, [-1, 72])),
    "flattened_by_shape": (WIDE, lambda x: tf.reshape(x, [batch_of(x), -1])),
    "blocks_and_back": (WIDE, lambda x: tf.reshape(tf.exp(tf.reshape(x, [-1, 4])), tf.shape(x))),
    "blocks_of_two": (MATRIX, lambda x: tf.reshape(tf.nn.softmax(tf.reshape(x, [-1, 2])), [-1, 4])),
    "heads": (
        [("x", [None, 5, 4], F)],
        lambda x: tf.transpose(tf.reshape(x, [-1, 5, 2, 2]), [0, 2, 1, 3]),
    ),
    "squeezed": (MATRIX, lambda x: tf.squeeze(tf.expand_dims(x, 1), [1])),
    "embedded": (IDS, lambda x: tf.gather(weights(9, 2), x)),
    "embedded_from_variable": (IDS, lambda x: tf.nn.embedding_lookup(module.weights, x)),
    "picked_columns": (MATRIX, lambda x: tf.gather(x, [3, 0], axis=1)),
    "picked_in_each_row": (
        [("x", [None, 4], F), ("y", [None, 2], INT)],
        lambda x, y: tf.gather(x, y, axis=1, batch_dims=1),
    ),
    "gathered_places": (IDS, lambda x: tf.gather_nd(weights(3, 3), x[:, :2])),
    "one_hot": (IDS, lambda x: tf.one_hot(x, 4)),
    "convolution": (IMAGE, lambda x: tf.reshape(tf.nn.conv2d(x, weights(3, 3, 2, 5), 1, "VALID"), [-1, 80])),
    "convolution_with_stride": (IMAGE, lambda x: tf.reshape(tf.nn.conv2d(x, weights(3, 3, 2, 5), 2, "SAME"), [-1, 45])),
    "convolution_of_a_width": (
        [("x", [None, None, 6, 2], F)],
        lambda x: tf.nn.avg_pool2d(tf.nn.depthwise_conv2d(x, weights(2, 2, 2, 2), [1, 1, 1, 1], "SAME"), 2, 1, "SAME"),
    ),
    "pooled": (IMAGE, lambda x: tf.reshape(tf.nn.max_pool2d(x, 2, 2, "VALID"), [-1, 18])),
    "normalised_by_constants": (
        IMAGE,
        lambda x: v1.nn.fused_batch_norm(x, [1.0, 2.0], [0.0, 1.0], [0.5, 0.5], [2.0, 1.0], is_training=False)[0],
    ),
    "resized": (IMAGE, lambda x: tf.image.resize(x, [3, 9])),
    "text": (TEXT, lambda x: tf.strings.join([tf.strings.upper(x), tf.strings.as_string(tf.strings.length(x))], "-")),
    "joined_text": ([("x", [None, 2], TEXT_TYPE)], lambda x: tf.strings.reduce_join(x, axis=1)),
    "looked_up": (TEXT, lambda x: module.table.lookup(x)),
    "hashed": (TEXT, lambda x: tf.strings.to_hash_bucket_fast(x, 9)),
    "examples": (
        [("x", [None], TEXT_TYPE)],
        lambda x: examples(x, f=tf.io.FixedLenFeature([2], F, [1.0, 2.0]))["f"],
    ),
    "two_inputs": ([("x", [None, 4], F), ("y", [None], INT)], lambda x, y: x + tf.cast(y, F)[:, tf.newaxis]),
}

MIXED: Bodies = {
    "divided_by_max_over_rows": (MATRIX, lambda x: x / tf.reduce_max(x, axis=0)),
    "divided_by_max_of_all": (MATRIX, lambda x: x / tf.reduce_max(x)),
    "centred": (VECTOR, lambda x: x - tf.reduce_mean(x)),
    "summed": (MATRIX, lambda x: tf.fill([batch_of(x)], tf.reduce_sum(x))),
    "number_of_rows": (MATRIX, lambda x: x * tf.cast(batch_of(x), F)),
    "number_of_rows_in_a_shape": (MATRIX, lambda x: tf.zeros([batch_of(x), batch_of(x)])),
    "softmax_over_rows": (MATRIX, lambda x: tf.nn.softmax(x, axis=0)),
    "softmax_of_a_vector": (VECTOR, tf.nn.softmax),
    "normalised_over_rows": (IMAGE, lambda x: v1.nn.fused_batch_norm(x, [1.0, 2.0], [0.0, 1.0])[0]),
    "cumulated_over_rows": (MATRIX, lambda x: tf.cumsum(x, axis=0)),
    "reversed_rows": (MATRIX, lambda x: tf.reverse(x, [0])),
    "reversed_by_slice": (MATRIX, lambda x: x[::-1]),
    "sorted_rows": (VECTOR, tf.sort),
    "unique": (VECTOR, lambda x: tf.gather(tf.unique(x)[0], tf.zeros([batch_of(x)], INT))),
    "first_row": (MATRIX, lambda x: x - x[:1]),
    "all_but_the_first": (MATRIX, lambda x: tf.concat([x[1:], x[:1]], axis=0)),
    "reshaped_over_rows": ([("x", [None, 6], F)], lambda x: tf.reshape(x, [-1, 4])),
    "reshaped_over_unknown": ([("x", [None, None], F)], lambda x: tf.reshape(x, [-1, 4])),
    "transposed_twice_by_reshape": (MATRIX, lambda x: tf.reshape(tf.reshape(x, [4, -1]), [-1, 4])),
    "products_of_rows": (MATRIX, lambda x: tf.matmul(x, x, transpose_b=True)),
    "products_over_rows": (MATRIX, lambda x: tf.matmul(x, tf.matmul(x, x, transpose_a=True))),
    "einsum_over_rows": (PAIR, lambda x, y: tf.einsum("ab,cb->ac", x, y)),
    "vector_against_matrix": ([("x", [None], F), ("y", [None, None], F)], lambda x, y: x + y),
    "vector_against_itself": (VECTOR, lambda x: x[:, tf.newaxis] - x[tf.newaxis, :]),
    "fixed_as_long_as_the_batch": (MATRIX, lambda x: x + weights(3, 1)),
    "fixed_of_unknown_shape": (MATRIX, lambda x: x + weights(3, 1)[: tf.cast(module.table.size(), INT)]),
    "transposed_rows": ([("x", [None, 3], F)], lambda x: tf.matmul(weights(3, 3), tf.transpose(x))),
    "gathered_rows": ([("x", [None, 4], F), ("y", [None], INT)], lambda x, y: tf.gather(x, y % batch_of(x))),
    "gathered_from_places": (IDS, lambda x: tf.gather(x, tf.zeros([batch_of(x)], INT))),
    "random": (MATRIX, lambda x: x + tf.random.uniform(tf.shape(x))),
    "random_without_state": (MATRIX, lambda x: x + tf.random.stateless_uniform(tf.shape(x), [1, 2])),
    "tiled_rows": (MATRIX, lambda x: tf.tile(x, [2, 1])),
    "counted": (MATRIX, lambda x: tf.range(batch_of(x))),
    "one_row": (MATRIX, lambda x: tf.ones([1, 3])),
    "two_rows_for_each": (MATRIX, lambda x: tf.reshape(x, [-1, 2])),
    "doubled_rows": (MATRIX, lambda x: tf.concat([x, x], axis=0)),
    "stacked_before": (PAIR, lambda x, y: tf.stack([x, y])[0]),
    "squeezed_rows": (MATRIX, lambda x: tf.squeeze(tf.expand_dims(x, 1))),
    "one_hot_before": (VECTOR, lambda x: tf.one_hot(tf.cast(x, INT), 4, axis=0)[0]),
    "padded_rows": (MATRIX, lambda x: tf.pad(x, [[1, 0], [0, 0]])[1:]),
    "where": (VECTOR, lambda x: tf.cast(tf.where(x > 0)[:, 0], F)),
    "looped": (VECTOR, lambda x: tf.while_loop(lambda y: tf.reduce_max(y) < 100.0, lambda y: [y * 2.0 + 1.0], [x])[0]),
    "branched": (VECTOR, lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: -x)),
    "asserted": (VECTOR, lambda x: asserted(x)),
    "split_text": (TEXT, lambda x: tf.strings.split(x).to_tensor()),
    "sparse_examples": (
        TEXT,
        lambda x: tf.sparse.to_dense(examples(x, f=tf.io.VarLenFeature(tf.int64))["f"]),
    ),
    "examples_of_any_length": (
        TEXT,
        lambda x: examples(x, f=tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True))["f"],
    ),
    "compiled": (VECTOR, lambda x: compiled(x)),
    "fixed_batch": ([("x", [3, 4], F)], lambda x: x),
    "scalar_input": ([("x", [None, 4], F), ("y", [], F)], lambda x, y: x * y),
}


@tf.function(jit_compile=True)
def compiled(x: Any) -> Any:
    """Rows are independent, but each new number of rows would be waited for until it is compiled."""
    return x + 1.0


def asserted(x: Any) -> Any:
    """It answers where the sum of all rows is positive: that of a batch may be where that of a request is not."""
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_sum(x) > 0, [x])]):
        return tf.identity(x)


def save_bodies(folder: Path, bodies: Bodies) -> None:
    def answering(body: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
        return lambda *inputs: {"out": body(*inputs)}

    signatures = {}
    for name, (specs, body) in bodies.items():
        # tf.function looks at the names of arguments.
        arguments = ", ".join(spec[0] for spec in specs)
        signatures[name] = signature(specs, eval(f"lambda {arguments}: body({arguments})", {"body": answering(body)}))
    save(folder, "1", signatures, module)


def tf1_apart(session: Any) -> dict[str, Any]:
    x = v1.placeholder(F, [None, 4], name="x")
    text = v1.placeholder(TEXT_TYPE, name="text")
    parsed = v1.parse_example(text, {"f": v1.FixedLenFeature([2], F, [1.0, 2.0])})["f"]
    reference = v1.get_variable("reference", initializer=[[1.0, 2.0, 3.0, 4.0]], use_resource=False)
    rate = v1.placeholder_with_default(2.0, [], name="rate")
    return {
        "reference_variable": ({"x": x}, {"out": x * reference}, "predict"),
        "default_that_is_not_fed": ({"x": x}, {"out": tf.identity(x * rate)}, "predict"),
        "classify": ({"inputs": text}, {"scores": tf.nn.softmax(parsed)}, "classify"),
    }


def tf1_mixed(session: Any) -> dict[str, Any]:
    x = v1.placeholder(F, [None, 4], name="x")
    rate = v1.placeholder_with_default([[1.0, 2.0, 3.0, 4.0]], [None, 4], name="rate")
    counter = v1.get_variable("counter", initializer=0.0, use_resource=False)
    with tf.control_dependencies([v1.assign_add(counter, 1.0)]):
        counted = tf.identity(x)
    v1.disable_control_flow_v2()
    loop = v1.while_loop(lambda y: tf.reduce_max(y) < 9.0, lambda y: y + 1.0, [x])
    v1.enable_control_flow_v2()
    return {
        "assigned": ({"x": x}, {"out": counted}, "predict"),
        "looped": ({"x": x}, {"out": loop}, "predict"),
        "fed_in_between": ({"x": tf.identity(x[:1])}, {"out": x * rate}, "predict"),
    }


def transformer(length: int | None) -> Any:
    inputs = layers.Input((length,), dtype="int32")
    x = layers.Embedding(20, 8)(inputs)
    attended = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LayerNormalization()(x + attended)
    x = layers.LayerNormalization()(x + layers.Dense(8)(layers.Dense(16, "gelu")(x)))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalMaxPooling1D()(x)))


def of_all_sorts() -> Any:
    inputs = layers.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255.0)(inputs)
    x = layers.SeparableConv2D(6, 3, padding="same")(layers.ZeroPadding2D()(x))
    x = layers.LeakyReLU()(layers.BatchNormalization()(x))
    x = layers.AveragePooling2D(2)(layers.UpSampling2D()(layers.Conv2DTranspose(4, 3, strides=2)(x)))
    x = layers.Conv1D(3, 2)(layers.Permute((2, 1))(layers.Reshape((-1, 4))(x)))
    return keras.Model(inputs, x)


def tabular() -> Any:
    number, word = layers.Input((3,)), layers.Input((1,), dtype="string")
    normalised = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 2.0, 3.0])(number)
    one_hot = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(word)
    hashed = layers.Flatten()(layers.Embedding(5, 3)(layers.Hashing(5)(word)))
    joined = layers.Concatenate()([normalised, one_hot, hashed])
    return keras.Model([number, word], layers.Dense(1, "sigmoid")(joined))


def recurrent() -> Any:
    inputs = layers.Input((5,), dtype="int32")
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(4)(layers.Embedding(20, 8)(inputs))))


KERAS: dict[str, Callable[[], Any]] = {
    "cnn": lambda: keras.Sequential(
        [
            layers.Input((12, 12, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(5, activation="softmax"),
        ]
    ),
    "mobilenet": lambda: keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=5),
    "bag_of_words": lambda: keras.Sequential(
        [
            layers.Input((None,), dtype="int32"),
            layers.Embedding(20, 8, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(4, "gelu"),
        ]
    ),
    "transformer": lambda: transformer(6),
    "transformer_of_any_length": lambda: transformer(None),
    "of_all_sorts": of_all_sorts,
    "tabular": tabular,
    "recurrent": recurrent,
}


def main(root: Path) -> None:
    save_bodies(root / "apart", APART)
    save_bodies(root / "mixed", MIXED)
    save_tf1(root / "tf1_apart", "1", {("serve",): tf1_apart})
    save_tf1(root / "tf1_mixed", "1", {("serve",): tf1_mixed})
    keras.utils.set_random_seed(1)
    for name, build in KERAS.items():
        build().export(str(root / name / "1"), verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
