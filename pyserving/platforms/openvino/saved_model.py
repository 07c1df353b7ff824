"""Signatures of a SavedModel, each as a function that OpenVINO has compiled. TensorFlow is not needed.

OpenVINO reads the signature ``serving_default`` of the first graph, and gives names of its own to outputs whose names
clash with others. So it is shown, for each signature in turn, a SavedModel with that one alone, under that name, with
inputs ``i0``, ``i1``, ... and outputs ``o0``, ``o1``, ...: a new ``saved_model.pb`` beside the same variables.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.dtypes import DType
from pyserving.platforms.model import Signature, TensorSpec
from pyserving.platforms.openvino.compiled import CompiledFunction
from pyserving.platforms.openvino.runtime import core, message, openvino
from pyserving.platforms.openvino.tensor_types import NARROWED, dtype_of
from pyserving.platforms.signature_def import DEFAULT_SIGNATURE
from pyserving.platforms.tensorflow.graph_ops import GraphOps
from pyserving.platforms.tensorflow.row_proof.proof import RowProof
from pyserving.platforms.tensorflow.saved_model import SAVED_MODEL_FILE, read_meta_graph, tensor_specs
from pyserving.protos.messages import MetaGraphDef, SavedModel, SignatureDef

_CONVERTED = "signature.xml"

# What OpenVINO would read, and compute as if each run were the first.
_CHANGE_STATE = (
    *("Apply", "Assign", "Barrier", "CountUpTo", "Iterator", "LookupTableImport", "LookupTableInsert"),
    *("LookupTableRemove", "Mutable", "Queue", "ResourceApply", "ResourceScatter", "ResourceSparseApply", "Scatter"),
    *("SparseApply", "Stage", "Unstage"),
)
_CHANGES_NOTHING = frozenset({"ScatterNd", "ScatterNdNonAliasingAdd"})

_OF_THE_EXPORTER = frozenset({"__saved_model_init_op", "__saved_model_train_op"})
"""Signatures that no client calls."""

logger = logging.getLogger("pyserving.openvino")

CompiledSignature = tuple[Signature, SignatureDef, CompiledFunction]


def compile_saved_model(folder: str, tags: Sequence[str], num_threads: int) -> dict[str, CompiledSignature]:
    """The signatures that OpenVINO can compute, of the graph with exactly these tags; with a warning for each other.

    Raises ServingError where there is none.
    """
    meta_graph = read_meta_graph(folder, tags)
    graph_ops, proof = GraphOps(meta_graph.graph_def), RowProof(meta_graph.graph_def)
    compiled: dict[str, CompiledSignature] = {}
    errors: dict[str, ServingError] = {}
    copies = {
        name: SignatureDef.FromString(meta_graph.signature_def[name].SerializeToString())
        for name in sorted(meta_graph.signature_def)
        if name not in _OF_THE_EXPORTER
    }
    with _beside_variables(folder) as scratch:
        for name, signature_def in copies.items():
            try:
                ops = graph_ops.behind(info.name for info in signature_def.outputs.values())
                _check_state(ops)
                model = _read(scratch, meta_graph, signature_def)
                compiled[name] = _compile(name, signature_def, model, num_threads, proof)
            except ServingError as error:
                errors[name] = error
            else:
                _warn(f"{folder}, signature {name}", ops, compiled[name][0])
    if not compiled:
        raise _cannot_be_served(folder, errors)
    for name, reason in errors.items():
        logger.warning("%s is served without signature %s: %s", folder, name, reason.message)
    return compiled


def convert_signature(folder: str, tags: Sequence[str], name: str, artefact: str) -> None:
    """Writes one signature as OpenVINO's own files into the folder ``artefact``. Raises ServingError, or OSError where
    they cannot be written."""
    meta_graph = read_meta_graph(folder, tags)
    signature_def = SignatureDef.FromString(meta_graph.signature_def[name].SerializeToString())
    ops = GraphOps(meta_graph.graph_def).behind(info.name for info in signature_def.outputs.values())
    _check_state(ops)
    with _beside_variables(folder) as scratch:
        model = _read(scratch, meta_graph, signature_def)
        # In half precision, its default, the weights would be other ones.
        try:
            openvino().save_model(model, os.path.join(artefact, _CONVERTED), compress_to_fp16=False)
        except RuntimeError as error:
            free = shutil.disk_usage(artefact).free  # OpenVINO does not say that the disk is full
            raise OSError(f"OpenVINO cannot write to {artefact}, {free} bytes free: {message(error)}") from None


def compile_artefact(artefact: str, signature: Signature, num_threads: int) -> CompiledFunction:
    """What ``convert_signature`` has written for ``signature``, ready to run. Raises ServingError."""
    try:
        model = core().read_model(os.path.join(artefact, _CONVERTED))
    except Exception as error:
        raise invalid_argument(f"OpenVINO cannot read {artefact}: {message(error)}") from None
    return _function(model, signature.inputs, signature.outputs, num_threads)


@contextmanager
def _beside_variables(folder: str) -> Iterator[str]:
    """A folder of our own, to write into, with the variables and assets of the version."""
    with tempfile.TemporaryDirectory(prefix="pyserving-") as scratch:
        for name in ("variables", "assets"):
            source = os.path.join(os.path.abspath(folder), name)
            if os.path.isdir(source):
                try:
                    os.symlink(source, os.path.join(scratch, name), target_is_directory=True)
                except OSError:  # Windows allows it to few
                    shutil.copytree(source, os.path.join(scratch, name))
        yield scratch


def _read(scratch: str, meta_graph: MetaGraphDef, signature_def: SignatureDef) -> Any:
    """An ``openvino.Model`` with the inputs ``i<n>`` and outputs ``o<n>``. Changes the signatures of ``meta_graph``."""
    meta_graph.signature_def.clear()
    shown = meta_graph.signature_def[DEFAULT_SIGNATURE]
    for position, alias in _numbered(signature_def.inputs):
        shown.inputs[f"i{position}"].CopyFrom(signature_def.inputs[alias])
    for position, alias in _numbered(signature_def.outputs):
        shown.outputs[f"o{position}"].CopyFrom(signature_def.outputs[alias])
    with open(os.path.join(scratch, SAVED_MODEL_FILE), "wb") as file:
        file.write(SavedModel(saved_model_schema_version=1, meta_graphs=[meta_graph]).SerializeToString())
    try:
        return core().read_model(scratch)
    except Exception as error:
        raise ServingError(Code.UNIMPLEMENTED, message(error)) from None


def _check_state(ops: Iterable[str]) -> None:
    found = sorted(op for op in ops if op.startswith(_CHANGE_STATE) and op not in _CHANGES_NOTHING)
    if found:
        raise ServingError(Code.UNIMPLEMENTED, f"it keeps state from run to run: {', '.join(found)}")


def _warn(which: str, ops: Iterable[str], signature: Signature) -> None:
    """Says where answers may differ from TensorFlow's."""
    dtypes = {spec.dtype for spec in (*signature.inputs.values(), *signature.outputs.values())}
    if DType.DOUBLE in dtypes:
        logger.warning("%s: OpenVINO computes double as float", which)
    if dtypes & NARROWED:
        logger.warning("%s: OpenVINO computes integers in 32 bits", which)
    if "Assert" in ops:
        logger.warning("%s: OpenVINO leaves out the assertions in the graph", which)


def _compile(
    name: str, signature_def: SignatureDef, model: Any, num_threads: int, proof: RowProof
) -> CompiledSignature:
    inputs, outputs = tensor_specs(signature_def.inputs), tensor_specs(signature_def.outputs)
    function = _function(model, inputs, outputs, num_threads)
    signature = Signature(
        name=name,
        inputs=inputs,
        outputs=outputs,
        method_name=signature_def.method_name,
        stateless=True,
        steady=function.steady,
        row_wise=not function.random and proof.objection(inputs.values(), outputs.values()) is None,
    )
    return signature, signature_def, function


def _function(
    model: Any, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec], num_threads: int
) -> CompiledFunction:
    fed = {_port(model.inputs, f"i{position}", inputs[alias]): inputs[alias] for position, alias in _numbered(inputs)}
    fetched = {alias: _port(model.outputs, f"o{position}", outputs[alias]) for position, alias in _numbered(outputs)}
    return CompiledFunction(model, fed, fetched, num_threads)


def _numbered(aliases: Iterable[str]) -> Iterable[tuple[int, str]]:
    """As ``_read`` has named them."""
    return enumerate(sorted(aliases))


def _port(ports: Sequence[Any], name: str, spec: TensorSpec) -> int:
    """The index of the input or output of that name. Raises UNIMPLEMENTED where OpenVINO has dropped it."""
    for index, port in enumerate(ports):
        if name in port.get_names():
            given = dtype_of(spec.name, port.get_element_type().get_type_name())
            if given != spec.dtype:
                raise ServingError(
                    Code.UNIMPLEMENTED, f"OpenVINO reads {spec.name} as {given.text}; expected {spec.dtype.text}"
                )
            return index
    raise ServingError(Code.UNIMPLEMENTED, f"OpenVINO leaves out {spec.name}")


def _cannot_be_served(folder: str, errors: dict[str, ServingError]) -> ServingError:
    if not errors:
        return invalid_argument(f"the SavedModel in {folder} has no signature")
    reasons = "; ".join(f"signature {name}: {error.message}" for name, error in errors.items())
    return ServingError(
        Code.UNIMPLEMENTED,
        f"OpenVINO cannot serve the SavedModel in {folder}, TensorFlow can: pip install 'pyserving[tensorflow]' "
        f"({reasons})",
    )
