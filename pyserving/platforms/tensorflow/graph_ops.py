"""Which operations a tensor of a graph is computed by."""

from collections.abc import Iterable, Iterator, Sequence

from pyserving.core.background import breathe
from pyserving.protos.messages import FunctionDefLibrary, GraphDef, NodeDef


class GraphOps:
    """The operations of a graph, those inside of its functions included."""

    def __init__(self, graph: GraphDef) -> None:
        self._nodes = {node.name: node for node in graph.node}
        self._library = {function.signature.name: function.node_def for function in graph.library.function}
        self._reached = _functions_reached(graph.library)
        self._behind: dict[tuple[str, ...], frozenset[str]] = {}
        self.of_function = {
            name: {node.op for function in reached for node in self._library[function]}
            for name, reached in self._reached.items()
        }
        """By name of function, all operations that a call may run, those of functions called in turn included."""

    def behind(self, tensor_names: Iterable[str]) -> frozenset[str]:
        """All operations that may run when these tensors are computed."""
        names = tuple(tensor_names)
        found = self._behind.get(names)
        if found is None:
            found = self._behind[names] = frozenset(node.op for scope in self.scopes_behind(names) for node in scope)
        return found

    def scopes_behind(self, tensor_names: Iterable[str]) -> list[Sequence[NodeDef]]:
        """The nodes that may run when these tensors are computed: those of the graph, and those of each function."""
        seen: dict[str, NodeDef] = {}
        functions: set[str] = set()
        waiting = [_node_name(name) for name in tensor_names]
        while waiting:
            name = waiting.pop()
            node = self._nodes.get(name)
            if node is None or name in seen:
                continue
            seen[name] = node
            for function in _functions_called(node):
                functions |= self._reached.get(function, set())
            waiting.extend(_node_name(source) for source in node.input)
        return [list(seen.values()), *(self._library[function] for function in sorted(functions))]


def _functions_reached(library: FunctionDefLibrary) -> dict[str, set[str]]:
    """By name of function, itself and those that it calls, in turn."""
    calls = {
        f.signature.name: {name for node in f.node_def for name in _functions_called(node)} for f in library.function
    }
    result = {}
    for name in calls:
        reached: set[str] = set()
        waiting = [name]
        while waiting:
            function = waiting.pop()
            if function in calls and function not in reached:
                reached.add(function)
                waiting.extend(calls[function])
        result[name] = reached
    return result


def _functions_called(node: NodeDef) -> Iterator[str]:
    breathe()
    yield node.op  # a node may have a function for its operation
    attributes = node.attr
    for name in attributes:  # values() would take twice as long
        value = attributes[name]
        kind = value.WhichOneof("value")
        if kind == "func":
            yield value.func.name
        elif kind == "list":
            for function in value.list.func:
                yield function.name


def _node_name(tensor_name: str) -> str:
    """``^name`` (a control input) and ``name:1`` both come from node ``name``."""
    return tensor_name.removeprefix("^").partition(":")[0]
