"""What a graph may do that shows in no comparison: TensorFlow refuses some values, and other engines compute on."""

from collections.abc import Iterable, Sequence

from pyserving.platforms.dtypes import DType
from pyserving.platforms.tensorflow.graph_ops import GraphOps
from pyserving.protos.messages import GraphDef, NodeDef

_DIVISIONS = frozenset({"Div", "FloorDiv", "FloorMod", "Mod", "TruncateDiv", "TruncateMod"})
_INTEGERS = frozenset(
    int(dtype)
    for dtype in (
        *(DType.INT8, DType.INT16, DType.INT32, DType.INT64),
        *(DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64),
    )
)


def graph_objection(graph: GraphDef, tensor_names: Iterable[str]) -> str:
    """Why what computes these tensors stays on TensorFlow; empty where it may be tried."""
    scopes = GraphOps(graph).scopes_behind(tensor_names)
    if any(node.op == "Assert" for nodes in scopes for node in nodes):
        return "the graph has assertions, which other engines leave out"
    if any(_divides_integers(nodes) for nodes in scopes):
        return "the graph divides integers by what it computes, and other engines do not refuse a 0"
    return ""


def _divides_integers(nodes: Sequence[NodeDef]) -> bool:
    constants = {node.name for node in nodes if node.op == "Const"}
    return any(
        node.op in _DIVISIONS
        and node.attr["T"].type in _INTEGERS
        and node.input[1].removeprefix("^").partition(":")[0] not in constants
        for node in nodes
    )
