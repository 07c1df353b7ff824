"""The gRPC interface: PredictionService and ModelService, methods from serialized message to serialized message."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from pyserving.api.exchange import RpcContext, RpcHandler
from pyserving.api.inference import Classes, Task, classify, multi_inference, regress, serialized_examples
from pyserving.api.models import DEFAULT_SIGNATURE, Models, ModelSpec
from pyserving.api.predict import check_input_names, find_signature, predict, select_outputs
from pyserving.api.status import StatusApi
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.wire.tensor_proto import read_tensor, varint, write_tensor

M = TypeVar("M", bound=Message)

WithModelSpec = (
    messages.PredictRequest
    | messages.ClassificationRequest
    | messages.RegressionRequest
    | messages.GetModelStatusRequest
    | messages.GetModelMetadataRequest
)

Reload = Callable[[messages.ModelServerConfig], Awaitable[None]]
"""Makes a config true; raises ServingError."""

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_MAX_CACHED_SPECS = 1024


class RpcApi:
    """The methods of the gRPC interface."""

    def __init__(
        self,
        models: Models,
        status: StatusApi,
        executor: EngineExecutor,
        reload: Reload,
        *,
        as_tensor_content: bool = False,
    ) -> None:
        """``as_tensor_content``: outputs are written to tensor_content, not to the ``*_val`` fields."""
        self._reload = reload
        self._models = models
        self._status = status
        self._executor = executor
        self._as_tensor_content = as_tensor_content
        self._spec_fields: dict[tuple[ServableId, str], bytes] = {}

    def methods(self) -> Mapping[str, RpcHandler]:
        """By full name, as in the path of a call."""
        return {
            _PREDICTION + "Predict": self._predict,
            _PREDICTION + "Classify": self._classify,
            _PREDICTION + "Regress": self._regress,
            _PREDICTION + "MultiInference": self._multi_inference,
            _PREDICTION + "GetModelMetadata": self._get_model_metadata,
            _MODEL + "GetModelStatus": self._get_model_status,
            _MODEL + "HandleReloadConfigRequest": self._handle_reload_config_request,
        }

    async def _predict(self, data: bytes, context: RpcContext) -> bytes:
        request = _parse(messages.PredictRequest, data)
        spec = _model_spec(request)
        with self._models.acquire(spec) as handle:
            signature = find_signature(handle.servable, request.model_spec.signature_name)
            protos = request.inputs
            check_input_names(signature, protos)
            inputs = {name: read_tensor(protos[name], name) for name in signature.inputs if name in protos}
            outputs = select_outputs(signature, request.output_filter)
            results = await predict(self._executor, handle, signature, inputs, outputs, context.deadline)
            return self._predict_response(results) + self._spec_field(handle.id, signature.name)

    def _predict_response(self, results: Mapping[str, Array]) -> bytes:
        """The field ``outputs`` of PredictResponse: a map is a repeated message of key and value."""
        parts = []
        for name, array in results.items():
            key = name.encode()
            tensor = write_tensor(array, as_content=self._as_tensor_content)
            head = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(tensor))
            parts += [b"\x0a", varint(len(head) + len(tensor)), head, tensor]
        return b"".join(parts)

    def _spec_field(self, servable: ServableId, signature_name: str) -> bytes:
        """The field ``model_spec`` of PredictResponse, which says who answered."""
        cached = self._spec_fields.get((servable, signature_name))
        if cached is None:
            spec = _effective_spec(servable, signature_name)
            cached = messages.PredictResponse(model_spec=spec).SerializeToString()
            if len(self._spec_fields) >= _MAX_CACHED_SPECS:  # versions come and go: start over
                self._spec_fields.clear()
            self._spec_fields[servable, signature_name] = cached
        return cached

    async def _classify(self, data: bytes, context: RpcContext) -> bytes:
        request = _parse(messages.ClassificationRequest, data)
        with self._models.acquire(_model_spec(request)) as handle:
            name = request.model_spec.signature_name
            examples = _examples(request.input)
            classes = await classify(self._executor, handle, name, examples, context.deadline)
            response = messages.ClassificationResponse(model_spec=_effective_spec(handle.id, name))
            _write_classes(classes, response.result)
            return response.SerializeToString()

    async def _regress(self, data: bytes, context: RpcContext) -> bytes:
        request = _parse(messages.RegressionRequest, data)
        with self._models.acquire(_model_spec(request)) as handle:
            name = request.model_spec.signature_name
            examples = _examples(request.input)
            values = await regress(self._executor, handle, name, examples, context.deadline)
            response = messages.RegressionResponse(model_spec=_effective_spec(handle.id, name))
            _write_values(values, response.result)
            return response.SerializeToString()

    async def _multi_inference(self, data: bytes, context: RpcContext) -> bytes:
        request = _parse(messages.MultiInferenceRequest, data)
        specs = [_spec(task.model_spec) for task in request.tasks] or [ModelSpec("")]
        with self._models.acquire(specs[0]) as handle:
            for spec in specs:
                if not spec.name:
                    raise invalid_argument("Found ModelSpec with an empty model name.")
                if spec.name != specs[0].name:
                    raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
            tasks = [Task(task.model_spec.signature_name, task.method_name) for task in request.tasks]
            response = messages.MultiInferenceResponse()
            examples = _examples(request.input)
            results = await multi_inference(self._executor, handle, tasks, examples, context.deadline)
            for task, result in zip(tasks, results, strict=True):
                item = response.results.add(model_spec=_effective_spec(handle.id, task.signature_name))
                if isinstance(result, Classes):
                    item.classification_result.SetInParent()
                    _write_classes(result, item.classification_result)
                else:
                    item.regression_result.SetInParent()
                    _write_values(result, item.regression_result)
            return response.SerializeToString()

    async def _get_model_status(self, data: bytes, _: RpcContext) -> bytes:
        request = _parse(messages.GetModelStatusRequest, data)
        response = messages.GetModelStatusResponse()
        for state in self._status.states(_model_spec(request)):
            item = response.model_version_status.add(version=state.id.version, state=state.state.value)
            item.status.SetInParent()
            if state.error:
                item.status.error_code = state.error.code
                item.status.error_message = state.error.message
        return response.SerializeToString()

    async def _handle_reload_config_request(self, data: bytes, _: RpcContext) -> bytes:
        await self._reload(_parse(messages.ReloadConfigRequest, data).config)
        response = messages.ReloadConfigResponse()
        response.status.SetInParent()
        return response.SerializeToString()

    async def _get_model_metadata(self, data: bytes, _: RpcContext) -> bytes:
        request = _parse(messages.GetModelMetadataRequest, data)
        spec = _model_spec(request)
        _check_metadata_fields(request.metadata_field)
        with self._models.acquire(spec) as handle:
            definitions = messages.SignatureDefMap()
            for name, definition in handle.servable.signature_defs.items():
                definitions.signature_def[name].CopyFrom(definition)
            response = messages.GetModelMetadataResponse()
            response.model_spec.name = handle.id.name
            response.model_spec.version.value = handle.id.version
            response.metadata["signature_def"].Pack(definitions)
            return response.SerializeToString()


def _check_metadata_fields(fields: Sequence[str]) -> None:
    if not fields:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != "signature_def":
            raise invalid_argument(f"Metadata field {field} is not supported")


def _parse(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ServingError(Code.INTERNAL, f"the message is no {kind.DESCRIPTOR.full_name}: {error}") from None


def _model_spec(request: WithModelSpec) -> ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return _spec(request.model_spec)


def _spec(spec: messages.ModelSpec) -> ModelSpec:
    choice = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _effective_spec(servable: ServableId, signature_name: str) -> messages.ModelSpec:
    spec = messages.ModelSpec(name=servable.name, signature_name=signature_name or DEFAULT_SIGNATURE)
    spec.version.value = servable.version
    return spec


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
