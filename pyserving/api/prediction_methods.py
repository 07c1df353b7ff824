"""The methods of PredictionService on a version that is held: from a request message to the answer's bytes.

Whoever holds the version has seen to it that it is the one the request means: its ModelSpec is read here for the
name of the signature alone.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import numpy as np

from pyserving.api.inference import Classes, Task, classify, multi_inference, regress, serialized_examples
from pyserving.api.long_work import LONG_MESSAGE, on_thread
from pyserving.api.models import DEFAULT_SIGNATURE
from pyserving.api.predict import (
    Engine,
    check_input_names,
    check_predict_method_name,
    find_signature,
    predict,
    select_outputs,
)
from pyserving.api.predict_call import PredictCall, predict_call
from pyserving.api.streaming import predict_streamed
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.handle import ServableHandle
from pyserving.core.servable import ServableId
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.wire.tensor_proto import is_raw, memory_of, tensor_parts, varint

_MAX_CACHED_SPECS = 1024
_MAX_CACHED_HEADS = 1024

_entry_heads: dict[tuple[bytes, str, np.dtype, tuple[int, ...], bool], bytes] = {}
"""Entries of maps of tensors, up to the values, where these end the entry and are written as they lie in memory."""


class PredictionMethods:
    """Each method takes a handle, a request, a deadline (clock of ``time.monotonic``), or None, and the priority that
    the client names.

    Each raises ServingError.
    """

    def __init__(
        self,
        executor: EngineExecutor,
        metrics: ServingMetrics,
        *,
        as_tensor_content: bool = False,
        check_method_names: bool = False,
    ) -> None:
        """``as_tensor_content``: outputs are written to tensor_content, not to the ``*_val`` fields.

        ``check_method_names``: see Engine.
        """

        def engine(api: str) -> Engine:
            return Engine(executor, metrics, api, check_method_names=check_method_names)

        self._predict_engine = engine("Predict")
        self._predict_streamed_engine = engine("PredictStreamed")
        self._classify_engine = engine("Classify")
        self._regress_engine = engine("Regress")
        self._multi_inference_engine = engine("MultiInference")
        self._as_tensor_content = as_tensor_content
        self._spec_fields: dict[tuple[str, int, str], bytes] = {}

    async def predict(
        self, handle: ServableHandle, call: PredictCall, deadline: float | None, priority: str = ""
    ) -> bytes:
        """A serialized PredictResponse."""
        head = call.head
        signature = find_signature(handle.servable, head.signature_name)
        check_predict_method_name(self._predict_engine, signature)
        check_input_names(signature, head.input_names)
        inputs = call.tensors(signature)
        outputs = select_outputs(signature, head.output_filter)
        results = await predict(self._predict_engine, handle, signature, inputs, outputs, deadline, priority)
        parts = outputs_parts(results, as_tensor_content=self._as_tensor_content)
        parts.append(self._spec_field(handle.id, signature.name))
        if sum(map(len, parts)) >= LONG_MESSAGE:
            return await on_thread(b"".join, parts)
        return b"".join(parts)

    async def predict_streamed(
        self, handle: ServableHandle, request: messages.PredictRequest, deadline: float | None, priority: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """Serialized PredictResponses, one for each piece of the answer."""
        options = request.predict_streamed_options
        if options.request_state or options.split_dimensions or options.return_single_response:
            raise ServingError(Code.UNIMPLEMENTED, "predict_streamed_options are not supported")
        signature = find_signature(handle.servable, request.model_spec.signature_name)
        check_predict_method_name(self._predict_streamed_engine, signature)
        call = predict_call(request)
        check_input_names(signature, call.head.input_names)
        inputs = call.tensors(signature)
        outputs = select_outputs(signature, call.head.output_filter)
        spec = self._spec_field(handle.id, signature.name)
        pieces = predict_streamed(self._predict_streamed_engine, handle, signature, inputs, outputs, deadline, priority)
        async with aclosing(pieces):
            async for piece in pieces:
                yield outputs_field(piece, as_tensor_content=self._as_tensor_content) + spec

    async def classify(
        self,
        handle: ServableHandle,
        request: messages.ClassificationRequest,
        deadline: float | None,
        priority: str = "",
    ) -> bytes:
        """A serialized ClassificationResponse."""
        name = request.model_spec.signature_name
        classes = await classify(self._classify_engine, handle, name, _examples(request.input), deadline, priority)
        return classification_response(handle.id, name, classes)

    async def regress(
        self, handle: ServableHandle, request: messages.RegressionRequest, deadline: float | None, priority: str = ""
    ) -> bytes:
        """A serialized RegressionResponse."""
        name = request.model_spec.signature_name
        values = await regress(self._regress_engine, handle, name, _examples(request.input), deadline, priority)
        return regression_response(handle.id, name, values)

    async def multi_inference(
        self,
        handle: ServableHandle,
        request: messages.MultiInferenceRequest,
        deadline: float | None,
        priority: str = "",
    ) -> bytes:
        """A serialized MultiInferenceResponse. All tasks have to name the same model."""
        specs = [task.model_spec for task in request.tasks]
        for spec in specs:
            if not spec.name:
                raise invalid_argument("Found ModelSpec with an empty model name.")
            if spec.name != specs[0].name:
                raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        tasks = [Task(task.model_spec.signature_name, task.method_name) for task in request.tasks]
        examples = _examples(request.input)
        results = await multi_inference(self._multi_inference_engine, handle, tasks, examples, deadline, priority)
        response = messages.MultiInferenceResponse()
        for task, result in zip(tasks, results, strict=True):
            item = response.results.add(model_spec=effective_spec(handle.id, task.signature_name))
            if isinstance(result, Classes):
                item.classification_result.SetInParent()
                _write_classes(result, item.classification_result)
            else:
                item.regression_result.SetInParent()
                _write_values(result, item.regression_result)
        serialized: bytes = response.SerializeToString()
        return serialized

    def _spec_field(self, servable: ServableId, signature_name: str) -> bytes:
        """The field ``model_spec`` of PredictResponse, which says who answered."""
        key = (servable.name, servable.version, signature_name)  # hashed faster than a ServableId
        cached = self._spec_fields.get(key)
        if cached is None:
            spec = effective_spec(servable, signature_name)
            cached = messages.PredictResponse(model_spec=spec).SerializeToString()
            if len(self._spec_fields) >= _MAX_CACHED_SPECS:  # versions come and go: start over
                self._spec_fields.clear()
            self._spec_fields[key] = cached
        return cached


def effective_spec(servable: ServableId, signature_name: str) -> messages.ModelSpec:
    """Who answered: name, version and signature."""
    spec = messages.ModelSpec(name=servable.name, signature_name=signature_name or DEFAULT_SIGNATURE)
    spec.version.value = servable.version
    return spec


def outputs_field(results: Mapping[str, Array], *, as_tensor_content: bool) -> bytes:
    """The field ``outputs`` of PredictResponse: a map is a repeated message of key and value."""
    return b"".join(outputs_parts(results, as_tensor_content=as_tensor_content))


def outputs_parts(results: Mapping[str, Array], *, as_tensor_content: bool) -> list[bytes | memoryview]:
    """What ``outputs_field`` gives, before it is joined; the values of large arrays are where they were."""
    return _tensor_map(b"\x0a", results, as_tensor_content=as_tensor_content)


def inputs_field(inputs: Mapping[str, Array], *, as_tensor_content: bool) -> bytes:
    """The field ``inputs`` of PredictRequest."""
    return b"".join(_tensor_map(b"\x12", inputs, as_tensor_content=as_tensor_content))


def classification_response(servable: ServableId, signature_name: str, classes: Classes) -> bytes:
    """A serialized ClassificationResponse."""
    response = messages.ClassificationResponse(model_spec=effective_spec(servable, signature_name))
    _write_classes(classes, response.result)
    serialized: bytes = response.SerializeToString()
    return serialized


def regression_response(servable: ServableId, signature_name: str, values: Array) -> bytes:
    """A serialized RegressionResponse."""
    response = messages.RegressionResponse(model_spec=effective_spec(servable, signature_name))
    _write_values(values, response.result)
    serialized: bytes = response.SerializeToString()
    return serialized


def _tensor_map(tag: bytes, tensors: Mapping[str, Array], *, as_tensor_content: bool) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    for name, array in tensors.items():
        kind = (tag, name, array.dtype, array.shape, as_tensor_content)
        head = _entry_heads.get(kind)
        if head is not None:
            parts += [head, memory_of(array)]
            continue
        key = name.encode()
        tensor_head, values = tensor_parts(array, as_content=as_tensor_content)
        head = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(tensor_head) + len(values)) + tensor_head
        entry = tag + varint(len(head) + len(values)) + head
        parts += [entry, values]
        if is_raw(array.dtype, as_content=as_tensor_content):
            if len(_entry_heads) >= _MAX_CACHED_HEADS:
                _entry_heads.clear()
            _entry_heads[kind] = entry
    return parts


def _examples(given: messages.Input) -> Array:
    if given.WhichOneof("kind") == "example_list_with_context":
        listed = given.example_list_with_context
        context = listed.context.SerializeToString()
        return serialized_examples([example.SerializeToString() for example in listed.examples], context)
    return serialized_examples([example.SerializeToString() for example in given.example_list.examples])


def _write_classes(classes: Classes, result: messages.ClassificationResult) -> None:
    for row in classes.rows():
        item = result.classifications.add()
        for label, score in row:
            item.classes.add(label=label.decode(errors="replace"), score=score)


def _write_values(values: Array, result: messages.RegressionResult) -> None:
    for value in values.tolist():
        result.regressions.add(value=value)
