"""The gRPC interface: PredictionService and ModelService as methods over serialized messages."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from pyserving.api.exchange import RpcContext, RpcHandler
from pyserving.api.models import Models, ModelSpec
from pyserving.api.predict import check_input_names, find_signature, predict, select_outputs
from pyserving.api.status import StatusApi
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.core.servable import ServableId
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.wire.tensor_proto import read_tensor, varint, write_tensor

M = TypeVar("M", bound=Message)

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_MAX_CACHED_SPECS = 1024


class RpcApi:
    """The methods of the gRPC interface."""

    def __init__(
        self, models: Models, status: StatusApi, executor: EngineExecutor, *, as_tensor_content: bool = False
    ) -> None:
        """``as_tensor_content``: outputs are written to tensor_content, not to the ``*_val`` fields."""
        self._models = models
        self._status = status
        self._executor = executor
        self._as_tensor_content = as_tensor_content
        self._spec_fields: dict[tuple[ServableId, str], bytes] = {}

    def methods(self) -> Mapping[str, RpcHandler]:
        """By full name, as in the path of a call."""
        return {
            _PREDICTION + "Predict": self._predict,
            _PREDICTION + "GetModelMetadata": self._get_model_metadata,
            _MODEL + "GetModelStatus": self._get_model_status,
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
            spec = messages.ModelSpec(name=servable.name, signature_name=signature_name)
            spec.version.value = servable.version
            cached = messages.PredictResponse(model_spec=spec).SerializeToString()
            if len(self._spec_fields) >= _MAX_CACHED_SPECS:  # versions come and go: start over
                self._spec_fields.clear()
            self._spec_fields[servable, signature_name] = cached
        return cached

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


def _model_spec(
    request: messages.PredictRequest | messages.GetModelStatusRequest | messages.GetModelMetadataRequest,
) -> ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )
