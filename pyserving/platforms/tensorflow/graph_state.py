"""What a graph keeps between runs, told from the operations in it."""

from collections.abc import Collection, Iterable

from pyserving.platforms.tensorflow.library import TensorFlow
from pyserving.platforms.tensorflow.status import Status

# Stateful to TensorFlow, which means that two of them may not be merged into one, but a run leaves no trace:
# variables and tables are only looked up, calls and branches are what their functions are.
_LEAVE_NO_TRACE = frozenset(
    {
        "Assert",
        "Case",
        "HashTable",
        "HashTableV2",
        "If",
        "IsVariableInitialized",
        "LookupTableFind",
        "LookupTableFindV2",
        "LookupTableSize",
        "LookupTableSizeV2",
        "MutableHashTable",
        "MutableHashTableV2",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "StatefulPartitionedCall",
        "TemporaryVariable",
        "VarHandleOp",
        "VarIsInitializedOp",
        "Variable",
        "VariableShape",
        "VariableV2",
        "While",
    }
)

# Not stateful to TensorFlow, but they write through a reference to a TF1 variable. (A pure ScatterNd is taken for
# one of them, which costs no more than a priming.)
_WRITE_BY_REFERENCE = ("Apply", "Assign", "CountUpTo", "Scatter", "SparseApply")

_DRAW_OR_PRINT = frozenset(
    {
        *("Multinomial", "ParameterizedTruncatedNormal", "RandomGamma", "RandomPoisson", "RandomPoissonV2"),
        *("RandomShuffle", "RandomStandardNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal"),
        *("Print", "PrintV2"),
    }
)
"""They change a generator or a log, but nothing by which a later run could answer wrongly."""

REFERENCE_VARIABLES = frozenset({"TemporaryVariable", "Variable", "VariableV2"})
"""Kinds of TF1 variables that are written in place, under the eyes of whoever has read them."""


_TAKE_AS_LONG_AS_THEY_LIKE = frozenset(
    {
        # As many turns as a value says. LoopCond: the loops of TF1.
        *("For", "LoopCond", "StatelessWhile", "While"),
        # A picture of some bytes may unpack to many millions.
        *("DecodeAndCropJpeg", "DecodeBmp", "DecodeCompressed", "DecodeGif", "DecodeImage", "DecodeJpeg", "DecodePng"),
        *("DecodeWav", "DecodeWebP"),
        # Whatever Python, a file or a queue takes.
        *("EagerPyFunc", "PyFunc", "PyFuncStateless", "ReadFile", "WriteFile", "MatchingFiles"),
        *("DatasetToSingleElement", "IteratorGetNext", "ReduceDataset"),
        *("QueueDequeueManyV2", "QueueDequeueUpToV2", "QueueDequeueV2", "QueueEnqueueManyV2", "QueueEnqueueV2"),
    }
)


_TRUST_RANKS = (
    *("AvgPool", "Conv2D", "Conv3D", "DepthToSpace", "DepthwiseConv2d", "FusedBatchNorm", "LRN"),
    *("MaxPool", "SpaceToDepth"),
)
"""They ask their input for its channels before they have looked at how many dimensions it has; without one for them,
TensorFlow ends the process."""


class GraphState:
    """Answers whether operations change anything, and what is known of the time that they take."""

    def __init__(self, tf: TensorFlow, functions: Collection[str]) -> None:
        """``functions``: of the graph, by name. Where one is the operation of a node, what counts is what it runs."""
        self._tf = tf
        self._functions = functions

    def leaves_no_trace(self, ops: Iterable[str]) -> bool:
        """Whether these operations leave variables, tables and random generators as they were."""
        with Status(self._tf) as status:
            return not any(self._changes_state(op, status) for op in ops)

    def writes_state(self, ops: Iterable[str]) -> bool:
        """Whether these operations write variables, tables or the like, which a later run may read."""
        with Status(self._tf) as status:
            return any(self._changes_state(op, status) for op in ops if op not in _DRAW_OR_PRINT)

    def is_steady(self, ops: Iterable[str]) -> bool:
        """Whether the sizes of what is fed tell how long these operations take."""
        return _TAKE_AS_LONG_AS_THEY_LIKE.isdisjoint(ops)

    def trusts_ranks(self, ops: Iterable[str]) -> bool:
        """Whether an input with more or fewer dimensions than was said may end the process."""
        return any(op.startswith(_TRUST_RANKS) for op in ops)

    def _changes_state(self, op: str, status: Status) -> bool:
        if op in _LEAVE_NO_TRACE or op.startswith("TensorArray"):
            return False
        if op.startswith(_WRITE_BY_REFERENCE) or op in self._functions:
            return op.startswith(_WRITE_BY_REFERENCE)
        stateful = self._tf.op_is_stateful(op.encode(), status.address)
        return bool(stateful) or self._tf.get_code(status.address) != 0
