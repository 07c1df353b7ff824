"""Which operations a tensor of a graph is computed by."""

from collections.abc import Iterable, Iterator

from pyserving.protos.messages import FunctionDefLibrary, GraphDef, NodeDef


class GraphOps:
    """The operations of a graph, those inside of its functions included."""

    def __init__(self, graph: GraphDef) -> None:
        self._nodes = {node.name: node for node in graph.node}
        self.of_function = _ops_of_functions(graph.library)
        """By name of function, all operations that a call may run, those of functions called in turn included."""

    def behind(self, tensor_names: Iterable[str]) -> set[str]:
        """All operations that may run when these tensors are computed."""
        ops: set[str] = set()
        seen: set[str] = set()
        waiting = [_node_name(name) for name in tensor_names]
        while waiting:
            name = waiting.pop()
            node = self._nodes.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            ops.add(node.op)
            for function in _functions_called(node):
                ops |= self.of_function.get(function, set())
            waiting.extend(_node_name(source) for source in node.input)
        return ops


def _ops_of_functions(library: FunctionDefLibrary) -> dict[str, set[str]]:
    ops = {f.signature.name: {node.op for node in f.node_def} for f in library.function}
    calls = {
        f.signature.name: {name for node in f.node_def for name in _functions_called(node)} for f in library.function
    }
    result = {}
    for name in ops:
        reached: set[str] = set()
        waiting = [name]
        while waiting:
            function = waiting.pop()
            if function in ops and function not in reached:
                reached.add(function)
                waiting.extend(calls[function])
        result[name] = set().union(*(ops[function] for function in reached))
    return result


def _functions_called(node: NodeDef) -> Iterator[str]:
    yield node.op  # a node may have a function for its operation
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        elif value.HasField("list"):
            yield from (function.name for function in value.list.func)


def _node_name(tensor_name: str) -> str:
    """``^name`` (a control input) and ``name:1`` both come from node ``name``."""
    return tensor_name.removeprefix("^").partition(":")[0]
