"""The proof itself: from what is fed to what is fetched, through the functions that are called on the way.

It is an abstract interpretation: of each tensor it is told whether it is the same for any batch (``Fixed``), has a row
for each row that is fed, computed from that row alone (``Rows``), or neither. Rows stay apart only through operations
that have a rule; of any other the proof knows nothing, and requests are not joined.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from math import prod

import numpy as np

from pyserving.core.background import breathe
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import TensorSpec
from pyserving.platforms.tensorflow.row_proof import elementwise, linear, lookup, shaping
from pyserving.platforms.tensorflow.row_proof.call import Call, as_fixed, known_shape
from pyserving.platforms.tensorflow.row_proof.shaping import MAX_NUMBERS
from pyserving.platforms.tensorflow.row_proof.sizes import BATCH, Size
from pyserving.platforms.tensorflow.row_proof.values import Fixed, Rows, Unproven, Value, numbers
from pyserving.protos.messages import FunctionDef, GraphDef, NodeDef, TensorProto

logger = logging.getLogger("pyserving.tensorflow")

_RULES = {**elementwise.RULES, **linear.RULES, **lookup.RULES, **shaping.RULES}

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_OUTPUTS = {
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), ("y",)),
    "TopKV2": ("values", "indices"),
}
"""Names of outputs in their order, for operations with a rule that have more than one and no list of them."""

_MAX_DEPTH = 50
_MAX_OPERATIONS = 200_000
"""In all functions, one that is called twice counted twice."""


class RowProof:
    """Proves of outputs of a graph that each of their rows depends on that row of what is fed, and on no other."""

    def __init__(self, graph: GraphDef) -> None:
        self._nodes = {node.name: node for node in graph.node}
        self.functions: Mapping[str, FunctionDef] = {each.signature.name: each for each in graph.library.function}
        self._symbols = count()
        self._operations = 0

    def objection(self, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> str | None:
        """Why requests with these inputs and outputs must not be joined; None if it is proven that they may be.

        It holds for inputs that have the shapes of their specs, and are vectors where that is unknown. No operation on
        the way may keep state.
        """
        self._operations = 0
        try:
            fed = {_reference(spec.tensor_name): _fed(spec) for spec in inputs}
            if not fed:
                raise Unproven("nothing is fed")
            frame = _Frame(self, self._nodes, {}, fed, 0)
            for spec in outputs:
                value = frame.value(_reference(spec.tensor_name))
                if not isinstance(value, Rows) or value.shape[0] != BATCH:
                    raise Unproven(f"output {spec.name} does not have a row for each row that is fed")
        except Unproven as error:
            return str(error)
        except Exception:
            # To batch or not is no reason to keep a model from being served.
            logger.exception("The proof that rows stay apart has failed")
            return "the proof has failed"
        return None

    def result(self, node: NodeDef, inputs: Sequence[Value], depth: int) -> "_Result":
        """What is known of the outputs of an operation. Raises Unproven."""
        self._operations += 1
        if self._operations > _MAX_OPERATIONS:
            raise Unproven("the graph is too large")
        function = self._called(node)
        if function is not None:
            if any(
                "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b
                for attributes in (node.attr, function.attr)
            ):
                raise Unproven(f"{function.signature.name} is compiled anew for each number of rows")
            if depth >= _MAX_DEPTH:
                raise Unproven("functions call each other too deeply")
            return _Result(_Frame.of_call(self, function, inputs, depth + 1))
        try:
            rule = _RULES.get(node.op)
            if rule is None:
                raise Unproven(f"nothing is known of operation {node.op}")
            found = rule(Call(node, inputs, self._new_size, _read_constant))
        except Unproven as error:
            try:
                for value in inputs:
                    as_fixed(value, "an input")
            except Unproven:
                raise Unproven(f"{node.op} {node.name}: {error}") from None
            # Whatever it does: it is fed nothing, so it does the same for every request.
            return _Result([], Fixed())
        return _Result(found if isinstance(found, list) else [found])

    def _called(self, node: NodeDef) -> FunctionDef | None:
        if node.op in self.functions:
            return self.functions[node.op]
        if node.op in _CALLS and "f" in node.attr:
            return self.functions.get(node.attr["f"].func.name)
        return None

    def output_index(self, node: NodeDef, name: str, index: int) -> int:
        """The position among all outputs of the one that a function calls ``node:name:index``."""
        if node.op in self.functions:
            names = [argument.name for argument in self.functions[node.op].signature.output_arg]
        elif node.op in _OUTPUTS:
            names = list(_OUTPUTS[node.op])
        elif node.op in ("ParseExample", "ParseExampleV2"):
            sparse = node.attr["num_sparse" if node.op == "ParseExampleV2" else "Nsparse"].i
            return 3 * sparse + index if name == "dense_values" else -1
        else:
            return index  # the only output, or an element of the only list of outputs
        return names.index(name) if name in names else -1

    def _new_size(self) -> Size:
        return Size(1, (f"size {next(self._symbols)}",))


class _Result:
    """What is known of the outputs of one operation: of each, or the same of all."""

    def __init__(self, values: Sequence[Value | None], rest: Value | None = None) -> None:
        self._values = values
        self._rest = rest

    def output(self, index: int) -> Value | None:
        return self._values[index] if 0 <= index < len(self._values) else self._rest


_Reference = tuple[str, str, int]
"""Node, name of its output ("" for the graph, where outputs are numbered through), index."""


class _Frame:
    """A graph, or one call of a function."""

    def __init__(
        self,
        proof: RowProof,
        nodes: Mapping[str, NodeDef],
        arguments: Mapping[str, Value],
        fed: Mapping[_Reference, Value],
        depth: int,
    ) -> None:
        self._proof = proof
        self._nodes = nodes
        self._arguments = arguments
        self._fed = fed
        self._depth = depth
        self._results: dict[str, _Result | Unproven] = {}

    @classmethod
    def of_call(cls, proof: RowProof, function: FunctionDef, inputs: Sequence[Value], depth: int) -> list[Value | None]:
        """What is known of the function's outputs. Raises Unproven."""
        signature = function.signature
        if any(each.number_attr or each.type_list_attr for each in (*signature.input_arg, *signature.output_arg)):
            raise Unproven(f"{signature.name} takes or returns lists")
        names = [argument.name for argument in signature.input_arg]
        if len(names) != len(inputs):
            raise Unproven(f"{signature.name} is called with {len(inputs)} inputs")
        frame = cls(
            proof, {node.name: node for node in function.node_def}, dict(zip(names, inputs, strict=True)), {}, depth
        )
        for name in function.control_ret.values():
            frame.require(name)
        return [frame.value(_reference(function.ret[argument.name])) for argument in signature.output_arg]

    def value(self, reference: _Reference) -> Value:
        """Raises Unproven."""
        if reference in self._fed:
            return self._fed[reference]
        name, output, index = reference
        if name in self._arguments:
            return self._arguments[name]
        self.require(name)
        result = self._results[name]
        assert isinstance(result, _Result)
        node = self._nodes[name]
        found = result.output(self._proof.output_index(node, output, index) if output else index)
        if found is None:
            raise Unproven(f"{node.op} {node.name}: an output does not have a row for each row that is fed")
        return found

    def require(self, name: str) -> None:
        """That this node does nothing that depends on several rows. Raises Unproven."""
        self._work_out(name)
        result = self._results[name]
        if isinstance(result, Unproven):
            raise result

    def _work_out(self, name: str) -> None:
        """A node and all that it needs. Not by recursion: a graph may be many thousand nodes deep."""
        waiting = [name]
        entered: set[str] = set()
        while waiting:
            breathe()
            current = waiting[-1]
            if current in self._results:
                waiting.pop()
                continue
            node = self._nodes.get(current)
            if node is None:
                self._results[current] = Unproven(f"{current} is not in the graph")
                continue
            needed = [source for source in self._sources(node) if source not in self._results]
            if needed and current not in entered:
                entered.add(current)
                waiting += needed
                continue
            try:
                if needed:
                    raise Unproven(f"{node.op} {node.name} is part of a loop")
                self._results[current] = self._result(node)
            except Unproven as error:
                self._results[current] = error

    def _sources(self, node: NodeDef) -> list[str]:
        """The nodes that it needs."""
        found = []
        for text in node.input:
            reference = _reference(text.removeprefix("^"))
            if text.startswith("^") or not (reference in self._fed or reference[0] in self._arguments):
                found.append(reference[0])
        return found

    def _result(self, node: NodeDef) -> _Result:
        inputs = []
        for text in node.input:
            if text.startswith("^"):
                self.require(text[1:])
            else:
                inputs.append(self.value(_reference(text)))
        return self._proof.result(node, inputs, self._depth)


def _reference(text: str) -> _Reference:
    """``node`` and ``node:1`` in a graph; ``argument`` and ``node:output:1`` in a function."""
    name, *rest = text.split(":")
    if not rest:
        return name, "", 0
    return name, rest[0] if len(rest) > 1 else "", int(rest[-1]) if rest[-1].isdecimal() else -1


def _fed(spec: TensorSpec) -> Rows:
    shape = (None,) if spec.shape is None else spec.shape
    if not spec.tensor_name or shape[:1] != (None,):
        raise Unproven(f"dimension 0 of input {spec.name} is not that of a batch")
    tail = [
        Size(1, (f"input {spec.name} dimension {axis}",)) if size is None else Size(size)
        for axis, size in enumerate(shape[1:], 1)
    ]
    return Rows((BATCH, *tail))


def _read_constant(tensor: TensorProto) -> Value:
    shape = known_shape(tensor.tensor_shape)
    if shape is None:
        return Fixed()
    sizes = tuple(size.factor for size in shape)
    if tensor.dtype not in (DType.INT32, DType.INT64) or prod(sizes) > MAX_NUMBERS:
        return Fixed(shape)
    if tensor.tensor_content:
        found = np.frombuffer(tensor.tensor_content, "<i4" if tensor.dtype == DType.INT32 else "<i8").tolist()
    else:
        found = list(tensor.int_val if tensor.dtype == DType.INT32 else tensor.int64_val)
        # The last one stands for all that are left out; zero where there is none.
        found += (found[-1:] or [0]) * (prod(sizes) - len(found))
    return numbers(map(Size, found), sizes) if len(found) == prod(sizes) else Fixed(shape)
