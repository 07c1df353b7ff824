"""What the server wants to know of a SavedModel's graph, told from its ``MetaGraphDef`` alone, without TensorFlow."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from pyserving.core.errors import invalid_argument
from pyserving.platforms.tensorflow.graph_ops import GraphOps
from pyserving.platforms.tensorflow.graph_state import REFERENCE_VARIABLES
from pyserving.platforms.tensorflow.row_proof.proof import RowProof
from pyserving.platforms.tensorflow.saved_model import tensor_specs
from pyserving.protos.messages import MetaGraphDef, SignatureDef


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """Of one signature."""

    signature_def: SignatureDef
    ops: frozenset[str]
    """All operations that may run when its outputs are computed."""
    objection: str | None
    """Why requests must not be joined into batches, or None (``RowProof.objection``); it holds if no operation keeps
    state."""


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """Of a graph and its signatures."""

    signatures: Mapping[str, SignatureFacts]
    """By name, in the order of names."""
    functions: frozenset[str]
    """Names of the graph's functions that are among the ``ops`` of a signature."""
    has_reference_variables: bool
    """Whether an output may be memory that a later run writes to."""

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads."""
        return {
            "signatures": {
                name: [
                    base64.b64encode(each.signature_def.SerializeToString()).decode(),
                    sorted(each.ops),
                    each.objection,
                ]
                for name, each in self.signatures.items()
            },
            "functions": sorted(self.functions),
            "has_reference_variables": self.has_reference_variables,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "GraphFacts":
        """Raises KeyError, TypeError or ValueError for what ``to_json`` does not make."""
        return cls(
            {
                name: SignatureFacts(SignatureDef.FromString(base64.b64decode(text)), frozenset(ops), objection)
                for name, (text, ops, objection) in fields["signatures"].items()
            },
            frozenset(fields["functions"]),
            bool(fields["has_reference_variables"]),
        )


def look_through(meta_graph: bytes) -> GraphFacts:
    """Reads a serialized ``MetaGraphDef``. For each MB it takes some 50 ms, in Python, with the GIL held.

    Raises INVALID_ARGUMENT where it is none.
    """
    try:
        message = MetaGraphDef.FromString(meta_graph)
    except DecodeError:
        raise invalid_argument("the MetaGraphDef cannot be read") from None
    graph_ops, proof = GraphOps(message.graph_def), RowProof(message.graph_def)
    signatures = {}
    for name in sorted(message.signature_def):
        # A copy, so that the graph, which may be large, is not kept with it.
        signature_def = SignatureDef.FromString(message.signature_def[name].SerializeToString())
        inputs, outputs = tensor_specs(signature_def.inputs).values(), tensor_specs(signature_def.outputs).values()
        ops = graph_ops.behind(spec.tensor_name for spec in outputs)
        signatures[name] = SignatureFacts(signature_def, ops, proof.objection(inputs, outputs))
    return GraphFacts(
        signatures,
        frozenset(op for each in signatures.values() for op in each.ops if op in graph_ops.of_function),
        any(node.op in REFERENCE_VARIABLES for node in message.graph_def.node),
    )
