"""The signatures of a .tflite file, wherever it has them.

First those in its metadata, which are ``SignatureDef`` messages; then those of the converter; where there are
neither, or other names than the tensors' are not wanted, one signature made of the model's inputs and outputs.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Signature, TensorSpec
from pyserving.platforms.signature_def import DEFAULT_SIGNATURE, PREDICT_METHOD, tensor_info
from pyserving.platforms.tflite.model_file import ModelFile, SignatureFacts, SubgraphFacts, TensorFacts
from pyserving.platforms.tflite.tensor_types import dtype_of
from pyserving.protos.messages import SignatureDef


@dataclass(frozen=True, slots=True, eq=False)
class BoundSignature:
    """A signature, and where in the file its tensors are."""

    signature: Signature
    signature_def: SignatureDef
    subgraph: int
    inputs: Mapping[str, int]
    """Indices of tensors in the subgraph, by alias."""
    outputs: Mapping[str, int]
    resizes_batch: bool
    """Whether dimension 0 may differ from the file's, which gives no dimension of an input as unknown."""


def read_signatures(file: ModelFile, *, tensor_names: bool) -> dict[str, BoundSignature]:
    """All signatures by name. Raises ServingError where the file contradicts itself or has types that cannot be fed."""
    if file.metadata_signatures:
        return {name: _from_metadata(file, name) for name in sorted(file.metadata_signatures)}
    if file.signatures and not tensor_names:
        return {name: _from_facts(file, name, facts) for name, facts in sorted(file.signatures.items())}
    main = file.subgraphs[0]
    facts = SignatureFacts(0, _by_tensor_name(main, main.inputs), _by_tensor_name(main, main.outputs))
    return {DEFAULT_SIGNATURE: _from_facts(file, DEFAULT_SIGNATURE, facts)}


def _by_tensor_name(subgraph: SubgraphFacts, indices: Collection[int]) -> dict[str, int]:
    """As TensorFlow Serving names them, without ``:0``; but with it where that would leave two of one name."""
    names = {index: subgraph.tensors[index].name for index in indices}
    if len(set(names.values())) < len(names):
        raise ServingError(Code.ALREADY_EXISTS, f"tensor names are not unique: {sorted(names.values())}")
    short = {index: name.partition(":")[0] for index, name in names.items()}
    uses = Counter(short.values())
    return {short[index] if uses[short[index]] == 1 else name: index for index, name in names.items()}


def _from_facts(file: ModelFile, name: str, facts: SignatureFacts) -> BoundSignature:
    tensors = file.subgraphs[facts.subgraph].tensors
    signature_def = SignatureDef(method_name=PREDICT_METHOD)
    for infos, indices in ((signature_def.inputs, facts.inputs), (signature_def.outputs, facts.outputs)):
        for alias, index in indices.items():
            infos[alias].CopyFrom(tensor_info(_spec(alias, tensors[index])))
    return _bound(file, name, signature_def, facts)


def _from_metadata(file: ModelFile, name: str) -> BoundSignature:
    try:
        signature_def = SignatureDef.FromString(file.metadata_signatures[name])
    except DecodeError:
        raise invalid_argument(f"the file's metadata has no SignatureDef message for signature {name}") from None
    main = file.subgraphs[0]
    indices = {}
    for kind, infos, within in (
        ("input", signature_def.inputs, main.inputs),
        ("output", signature_def.outputs, main.outputs),
    ):
        by_name = {main.tensors[index].name: index for index in within}
        for alias in infos:
            tensor_name = infos[alias].name
            # Old converters left out the ":0".
            found = next((full for full in (tensor_name, tensor_name.partition(":")[0]) if full in by_name), None)
            if found is None:
                raise invalid_argument(
                    f"signature {name}: {kind} {alias} is tensor {tensor_name}, the model has {sorted(by_name)}"
                )
            infos[alias].name = found
            indices[kind, alias] = by_name[found]
    facts = SignatureFacts(
        0,
        {alias: indices["input", alias] for alias in signature_def.inputs},
        {alias: indices["output", alias] for alias in signature_def.outputs},
    )
    return _bound(file, name, signature_def, facts)


def _bound(file: ModelFile, name: str, signature_def: SignatureDef, facts: SignatureFacts) -> BoundSignature:
    subgraph = file.subgraphs[facts.subgraph]
    missing = set(subgraph.inputs) - set(facts.inputs.values())
    if missing:
        # It would compute with what the request before has left there.
        names = sorted(subgraph.tensors[index].name for index in missing)
        raise invalid_argument(f"signature {name} gives no value to the model's inputs {names}")
    inputs, outputs = _specs(subgraph, facts.inputs), _specs(subgraph, facts.outputs)
    stateless = not file.assigns_variables
    steady = not file.has_loops
    signature = Signature(
        name=name,
        inputs=inputs,
        outputs=outputs,
        method_name=signature_def.method_name,
        stateless=stateless,
        writes_state=not stateless,
        steady=steady,
    )
    return BoundSignature(
        signature=signature,
        signature_def=signature_def,
        subgraph=facts.subgraph,
        inputs=facts.inputs,
        outputs=facts.outputs,
        resizes_batch=not any(spec.shape is None or None in spec.shape for spec in inputs.values()),
    )


def _specs(subgraph: SubgraphFacts, indices: Mapping[str, int]) -> dict[str, TensorSpec]:
    return {alias: _spec(alias, subgraph.tensors[index]) for alias, index in sorted(indices.items())}


def _spec(alias: str, tensor: TensorFacts) -> TensorSpec:
    return TensorSpec(alias, tensor.name, dtype_of(tensor.type, tensor.name), tensor.shape)
