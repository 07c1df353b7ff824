"""Classify, Regress and MultiInference: signatures over serialized ``tf.Example``s, with results of a fixed form.

Rules and error texts are the real server's (its classifier, regressor and multi_inference).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyserving.api.models import DEFAULT_SIGNATURE
from pyserving.api.predict import CLASSIFY, REGRESS, Engine, predict
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.handle import ServableHandle
from pyserving.platforms.dtypes import DTYPE_OF, DType
from pyserving.platforms.model import Array, Model, Signature


@dataclass(frozen=True, slots=True)
class Classes:
    """What a classification found, an example a row: labels, scores or both, [examples, classes] each."""

    labels: Array | None
    scores: Array | None

    def rows(self) -> list[list[tuple[bytes, float]]]:
        """Per example its (label, score) pairs; what the signature does not give is empty, or 0."""
        shape = self.labels.shape if self.labels is not None else self.scores.shape  # type: ignore[union-attr]
        labels = self.labels.tolist() if self.labels is not None else [[b""] * shape[1]] * shape[0]
        scores = self.scores.tolist() if self.scores is not None else [[0.0] * shape[1]] * shape[0]
        return [list(zip(*row, strict=True)) for row in zip(labels, scores, strict=True)]


async def classify(
    engine: Engine, handle: ServableHandle, name: str, examples: Array, deadline: float | None, priority: str = ""
) -> Classes:
    """Runs the classification signature ``name`` on ``examples`` ([n] serialized). Raises ServingError."""
    classes = await _classify(engine, handle, name, examples, deadline, priority)
    engine.metrics.examples_computed(handle.id.name, len(examples))
    return classes


async def regress(
    engine: Engine, handle: ServableHandle, name: str, examples: Array, deadline: float | None, priority: str = ""
) -> Array:
    """The value of each example, [n] float32, by the regression signature ``name``. Raises ServingError."""
    values = await _regress(engine, handle, name, examples, deadline, priority)
    engine.metrics.examples_computed(handle.id.name, len(examples))
    return values


async def _classify(
    engine: Engine, handle: ServableHandle, name: str, examples: Array, deadline: float | None, priority: str
) -> Classes:
    signature = inference_signature(handle.servable, name)
    outputs = _classify_outputs(engine, handle.servable, signature)
    results = await predict(engine, handle, signature, {"inputs": examples}, outputs, deadline, priority)
    labels, scores = results.get("classes"), results.get("scores")
    for kind, dtype, array in (("classes", DType.STRING, labels), ("scores", DType.FLOAT, scores)):
        if array is not None:
            _check_classes(kind, dtype, array, len(examples))
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    return Classes(labels, scores)


async def _regress(
    engine: Engine, handle: ServableHandle, name: str, examples: Array, deadline: float | None, priority: str
) -> Array:
    signature = inference_signature(handle.servable, name)
    outputs = _regress_outputs(engine, handle.servable, signature)
    results = await predict(engine, handle, signature, {"inputs": examples}, outputs, deadline, priority)
    values = results["outputs"]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values)}"
        )
    if len(values) != len(examples):
        raise invalid_argument(f"Input batch size did not match output batch size: {len(examples)} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype_name(values)}")
    return values.reshape(-1)


@dataclass(frozen=True, slots=True)
class Task:
    """One part of a MultiInference request."""

    signature_name: str
    method_name: str


async def multi_inference(
    engine: Engine,
    handle: ServableHandle,
    tasks: Sequence[Task],
    examples: Array,
    deadline: float | None,
    priority: str = "",
) -> list[Classes | Array]:
    """The result of each task, on the same examples and the same version. All tasks are checked before one runs."""
    _check_tasks(engine, handle.servable, tasks)
    results: list[Classes | Array] = []
    for task in tasks:
        if task.method_name == CLASSIFY:
            results.append(await _classify(engine, handle, task.signature_name, examples, deadline, priority))
        else:
            results.append(await _regress(engine, handle, task.signature_name, examples, deadline, priority))
    engine.metrics.examples_computed(handle.id.name, len(examples))
    return results


def inference_signature(model: Model, name: str) -> Signature:
    """The signature ``name``, or the default one. Raises INVALID_ARGUMENT, as these methods do."""
    try:
        return model.signatures[name or DEFAULT_SIGNATURE]
    except KeyError:
        raise invalid_argument(f"No signature was found with the name: {name or DEFAULT_SIGNATURE}") from None


def serialized_examples(examples: Sequence[bytes], context: bytes = b"") -> Array:
    """The tensor that is fed. The context stands before each example: where both have a feature, the later wins.

    Raises INVALID_ARGUMENT if there is no example.
    """
    if not examples:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(examples), object)
    array[:] = [context + example for example in examples] if context else list(examples)
    return array


def _check_tasks(engine: Engine, model: Model, tasks: Sequence[Task]) -> None:
    seen: set[str] = set()
    tensor_name = ""
    for task in tasks:
        name = task.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        signature = model.signatures.get(name)
        if signature is None:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name == CLASSIFY:
            _classify_outputs(engine, model, signature)
        elif task.method_name == REGRESS:
            _regress_outputs(engine, model, signature)
        else:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        fed = signature.inputs["inputs"].tensor_name
        if tensor_name and fed != tensor_name:
            raise invalid_argument("Input tensor must be the same for all Signatures.")
        tensor_name = fed


def _check_method_name(engine: Engine, signature: Signature, kind: str, wanted: str) -> None:
    if engine.check_method_names and signature.method_name != wanted:
        raise invalid_argument(f"Expected {kind} signature method_name to be {wanted}. Was: {signature.method_name}")


def _classify_outputs(engine: Engine, model: Model, signature: Signature) -> Sequence[str]:
    _check_method_name(engine, signature, "classification", CLASSIFY)
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {_definition(model, signature)}")
    outputs = [name for name in ("classes", "scores") if name in signature.outputs]
    if not outputs:
        raise invalid_argument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_definition(model, signature)}"
        )
    return outputs


def _regress_outputs(engine: Engine, model: Model, signature: Signature) -> Sequence[str]:
    _check_method_name(engine, signature, "regression", REGRESS)
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {_definition(model, signature)}")
    if "outputs" not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {_definition(model, signature)}")
    return ["outputs"]


def _check_classes(kind: str, dtype: DType, array: Array, num_examples: int) -> None:
    if array.ndim != 2:
        raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
    if DTYPE_OF[array.dtype] != dtype:
        raise invalid_argument(f"Expected {kind} Tensor of DT_{dtype.name}. Got: {_dtype_name(array)}")
    if len(array) != num_examples:
        raise invalid_argument(f"Expected {kind} output batch size of {num_examples}. Got: {len(array)}")


def _definition(model: Model, signature: Signature) -> str:
    return str(model.signature_defs[signature.name])


def _shape(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _dtype_name(array: Array) -> str:
    return f"DT_{DTYPE_OF[array.dtype].name}"
