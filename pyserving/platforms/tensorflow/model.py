"""One loaded SavedModel."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pyserving.core.errors import invalid_argument
from pyserving.platforms.input_check import check_rank
from pyserving.platforms.model import Array, Signature, TensorSpec
from pyserving.platforms.priming import PRIMING_SECONDS, prime
from pyserving.platforms.tensorflow.graph_facts import SignatureFacts
from pyserving.platforms.tensorflow.graph_reader import GraphReader, graph_reader
from pyserving.platforms.tensorflow.graph_state import GraphState
from pyserving.platforms.tensorflow.library import Output, TensorFlow, tensorflow
from pyserving.platforms.tensorflow.saved_model import check_folder, read_signatures
from pyserving.platforms.tensorflow.session import RunPlan, Session
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.protos.messages import SignatureDef

logger = logging.getLogger("pyserving.tensorflow")

_INIT_OP = "__saved_model_init_op"


class TensorFlowModel:
    """A ``Model`` computed by a TensorFlow session."""

    def __init__(self, path: str, options: SessionOptions) -> None:
        """Loads the SavedModel in the folder ``path``. Raises ServingError, with TensorFlow Serving's texts."""
        check_folder(path)
        tf = tensorflow()
        with graph_reader(path) as reader:
            self._load(tf, path, options, reader)
        deadline = time.monotonic() + PRIMING_SECONDS
        for signature in self.signatures.values():
            prime(self, signature, deadline)

    def _load(self, tf: TensorFlow, path: str, options: SessionOptions, reader: GraphReader) -> None:
        self._session = Session(tf, path, options.tags, options.session_config())
        try:
            facts = reader.facts(self._session.meta_graph)
            self._session.meta_graph = memoryview(b"")
            self.signature_defs: Mapping[str, SignatureDef] = {
                name: each.signature_def for name, each in facts.signatures.items()
            }
            state = GraphState(tf, facts.functions)
            self.signatures: Mapping[str, Signature] = {
                name: _with_properties(signature, facts.signatures[name], state)
                for name, signature in read_signatures(tf, self.signature_defs).items()
            }
        except BaseException:
            self.close()
            raise
        self._copies_outputs = facts.has_reference_variables
        self._trusting_ranks = frozenset(
            name for name, each in facts.signatures.items() if state.trusts_ranks(each.ops)
        )
        self._plans: dict[tuple[str, ...], RunPlan] = {}

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        inline: bool = False,
    ) -> list[Array]:
        """See ``Model.run``."""
        key = (signature.name, *outputs)
        try:
            plan = self._plans[key]
        except KeyError:
            plan = self._plans[key] = self._plan(signature, outputs)
        if signature.name in self._trusting_ranks:
            for spec in signature.inputs.values():
                check_rank(spec, inputs[spec.name])
        return self._session.run(
            plan,
            [inputs[name] for name in signature.inputs],
            timeout=timeout,
            inline=inline,
            steady=signature.steady,
            copy=self._copies_outputs,
        )

    def run_graph(
        self,
        feeds: Mapping[str, Array],
        fetches: Sequence[str],
        targets: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> list[Array]:
        """See ``GraphModel.run_graph``. TensorFlow keeps what it prepares for each new set of names."""
        session = self._session
        plan = RunPlan(
            [session.output(name) for name in feeds],
            [session.output(name) for name in fetches],
            [session.operation(name) for name in targets],
        )
        return session.run(plan, list(feeds.values()), timeout=timeout, steady=False, copy=self._copies_outputs)

    def close(self) -> None:
        """Gives back the session's memory. No run may be going on."""
        self._session.close()

    def _plan(self, signature: Signature, outputs: Sequence[str]) -> RunPlan:
        return RunPlan(
            [self._output(spec) for spec in signature.inputs.values()],
            [self._output(signature.outputs[name]) for name in outputs],
        )

    def _output(self, spec: TensorSpec) -> Output:
        if not spec.tensor_name:
            raise invalid_argument(f"{spec.name} is a sparse or composite tensor, which can be neither fed nor fetched")
        return self._session.output(spec.tensor_name)


def _with_properties(signature: Signature, facts: SignatureFacts, state: GraphState) -> Signature:
    stateless, steady = state.leaves_no_trace(facts.ops), state.is_steady(facts.ops)
    # The initialisation is listed as a signature, too: it brings the model to where every load brings it.
    writes_state = signature.name != _INIT_OP and state.writes_state(facts.ops)
    objection = facts.objection if stateless else "it changes the model"
    if objection is not None:
        logger.debug("Requests of signature %s are not joined into batches: %s", signature.name, objection)
    row_wise = objection is None
    return replace(signature, stateless=stateless, writes_state=writes_state, steady=steady, row_wise=row_wise)
