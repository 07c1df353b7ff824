"""Of which signatures it is proven that rows stay apart; and that these, run joined, answer as they do one by one."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_models import texts

from pyserving.batching.rows import join, split
from pyserving.core.errors import ServingError
from pyserving.platforms.dtypes import NUMPY_OF, DType
from pyserving.platforms.model import Array, Signature, TensorSpec
from pyserving.platforms.tensorflow.library import tensorflow
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.row_proof.proof import RowProof
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.platforms.tensorflow.tensors import read_tensor_proto
from pyserving.protos.messages import GraphDef, NodeDef, SavedModel, TensorProto

pytestmark = pytest.mark.tensorflow

MIXED = {"mixed", "recurrent", "tf1_mixed"}
"""Models with rows that depend on each other, or with operations that nothing is known of."""


@pytest.fixture(scope="module")
def models(row_models_folder: Path) -> Iterator[dict[str, TensorFlowModel]]:
    loaded = {
        folder.name: TensorFlowModel(str(folder / "1"), SessionOptions())
        for folder in sorted(row_models_folder.iterdir())
    }
    yield loaded
    for model in loaded.values():
        model.close()


def signatures(model: TensorFlowModel) -> dict[str, Signature]:
    return {name: each for name, each in model.signatures.items() if not name.startswith("__")}


def test_rows_that_are_apart_are_proven_so_and_no_others(models: dict[str, TensorFlowModel]) -> None:
    proven = {
        f"{name}/{key}": signature.row_wise
        for name, model in models.items()
        for key, signature in signatures(model).items()
    }
    expected = {path: path.partition("/")[0] not in MIXED for path in proven}
    assert proven == expected
    assert len(proven) > 120


WORDS = [b"", b"a", b"b", b"some words", "\u00e4rger".encode()]
EXAMPLES = [b"", b"\n\x13\n\x11\n\x01f\x12\x0c\x12\n\n\x08\x00\x00\x80?\x00\x00\x40\xc0"]
"""Serialized tf.Examples: one without features, one whose feature f is 1.0 and -3.0."""


def some_rows(spec: TensorSpec, rows: int, unknown: int, of_examples: bool, random: np.random.Generator) -> Array:
    tail = () if spec.shape is None else spec.shape[1:]
    shape = (rows, *(unknown if size is None else size for size in tail))
    if spec.dtype is DType.STRING:
        choice = random.choice(len(EXAMPLES if of_examples else WORDS), size=shape)
        found = [(EXAMPLES if of_examples else WORDS)[index] for index in choice.ravel()]
        return texts(*found).reshape(shape)
    if spec.dtype is DType.FLOAT:
        return random.normal(size=shape).astype(np.float32)
    return random.integers(0, 3, shape).astype(NUMPY_OF[spec.dtype])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4), unknown=st.integers(1, 5), seed=st.integers(0, 2**32 - 1)
)
def test_what_is_proven_answers_joined_as_it_does_one_by_one(
    models: dict[str, TensorFlowModel], sizes: list[int], unknown: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    for model in models.values():
        for name, signature in signatures(model).items():
            if not signature.row_wise:
                continue
            of_examples = name in ("examples", "classify")
            requests = [
                {alias: some_rows(spec, rows, unknown, of_examples, random) for alias, spec in signature.inputs.items()}
                for rows in sizes
            ]
            outputs = tuple(signature.outputs)
            total = sum(sizes)
            together = split(model.run(signature, join(requests, total), outputs), sizes, total)
            for request, joined in zip(requests, together, strict=True):
                for found, alone in zip(joined, model.run(signature, request, outputs), strict=True):
                    assert (found.dtype, found.shape) == (alone.dtype, alone.shape), name
                    if alone.dtype.kind == "f":
                        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5, err_msg=name)
                    else:
                        assert found.tolist() == alone.tolist(), name


@pytest.mark.parametrize("name", ["divided_by_max_over_rows", "centred", "first_row", "softmax_over_rows", "asserted"])
def test_joining_the_others_would_give_wrong_answers(models: dict[str, TensorFlowModel], name: str) -> None:
    """So that the test above is known to see it."""
    model = models["mixed"]
    signature = model.signatures[name]
    random = np.random.default_rng(1)
    requests = [{"x": some_rows(signature.inputs["x"], 2, 4, False, random) - shift} for shift in (-5, 0.5)]
    together = split(model.run(signature, join(requests, 4), ("out",)), [2, 2], 4)
    try:
        alone = [model.run(signature, request, ("out",)) for request in requests]
    except ServingError:
        assert name == "asserted"
        return
    assert not all(np.allclose(a[0], b[0]) for a, b in zip(together, alone, strict=True))


# Graphs that no exporter writes


def node(name: str, op: str, *inputs: str) -> NodeDef:
    return NodeDef(name=name, op=op, input=inputs)


def objection(
    *nodes: NodeDef, output: str = "y", shape: tuple[int | None, ...] | None = (None, 2), graph: GraphDef | None = None
) -> str | None:
    graph = graph or GraphDef()
    graph.node.extend(nodes)
    x = TensorSpec("x", "x:0", DType.FLOAT, shape)
    return RowProof(graph).objection([x], [TensorSpec("y", output, DType.FLOAT, None)])


X = node("x", "Placeholder")


def test_a_signature_that_answers_what_it_is_fed() -> None:
    assert objection(X, output="x:0") is None


@pytest.mark.parametrize(
    ("nodes", "output"),
    [
        ([X], "nowhere:0"),
        ([X, node("y", "Relu", "nowhere")], "y:0"),
        ([X, node("y", "Relu", "x"), node("z", "Relu", "y:1")], "z:0"),
        ([X, node("y", "Relu")], "y:0"),
        ([X, node("y", "AddV2", "x")], "y:1"),
        ([X, node("y", "MatMul", "x")], "y:0"),
        ([X, node("y", "Relu", "x", "^z"), node("z", "Unheard", "x")], "y:0"),
        ([X, node("y", "AddV2", "x", "z"), node("z", "AddV2", "y", "x")], "y:0"),
        ([X, node("y", "PartitionedCall", "x")], "y:0"),
        ([X, node("y", "TopKV2", "x", "k"), node("k", "Unheard")], "y:2"),
    ],
)
def test_a_graph_that_makes_no_sense_proves_nothing(nodes: list[NodeDef], output: str) -> None:
    assert objection(*nodes, output=output)


def test_a_function_that_calls_itself_proves_nothing() -> None:
    graph = GraphDef()
    function = graph.library.function.add()
    function.signature.name = "f"
    function.signature.input_arg.add(name="a")
    function.signature.output_arg.add(name="b")
    function.node_def.append(node("again", "f", "a"))
    function.ret["b"] = "again:b:0"
    assert "too deeply" in str(objection(X, node("y", "f", "x"), graph=graph))


def test_a_graph_may_be_many_thousand_operations_deep() -> None:
    names = ["x", *(f"n{index}" for index in range(20_000))]
    chain = [node(name, "Relu", before) for before, name in pairwise(names)]
    assert objection(X, *chain, output=f"{names[-1]}:0") is None


def test_attributes_that_are_left_to_a_function_prove_nothing() -> None:
    product = node("y", "MatMul", "x", "w")
    assert objection(X, node("w", "VariableV2"), product) is None
    product.attr["transpose_a"].placeholder = "which"
    assert objection(X, node("w", "VariableV2"), product)


def test_an_input_of_unknown_rank_is_taken_to_be_a_vector() -> None:
    assert objection(X, node("y", "Relu", "x"), shape=None) is None
    assert objection(X, node("y", "Softmax", "x"), shape=None)


def test_an_empty_tensor_is_read() -> None:
    empty = TensorProto(dtype=DType.INT32)
    empty.tensor_shape.dim.add(size=2)
    empty.tensor_shape.dim.add(size=0)
    read = read_tensor_proto(tensorflow(), empty.SerializeToString())
    assert (read.shape, read.dtype) == ((2, 0), np.int32)


def test_a_graph_is_read_from_the_saved_model(row_models_folder: Path) -> None:
    """A proof needs the graph alone: no session, no variables."""
    saved = SavedModel.FromString((row_models_folder / "cnn" / "1" / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    names = {each.name for each in graph.node if each.op == "Placeholder" and each.name.startswith("serving_default")}
    (name,) = names
    x = TensorSpec("x", f"{name}:0", DType.FLOAT, (None, 12, 12, 1))
    proof = RowProof(graph)
    call = next(each.name for each in graph.node if each.op == "StatefulPartitionedCall" and each.input[:1] == [name])
    outputs = [TensorSpec("y", f"{call}:0", DType.FLOAT, None)]
    assert proof.objection([x], outputs) is None
