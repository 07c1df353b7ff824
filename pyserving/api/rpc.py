"""The gRPC interface: PredictionService and ModelService, methods from serialized message to serialized message."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from pyserving.api.exchange import RpcContext, RpcHandler, StreamHandler, only_message
from pyserving.api.models import Models, ModelSpec, read_model_spec
from pyserving.api.parse_message import parse_message
from pyserving.api.predict_call import PredictCall, PredictCallReader
from pyserving.api.prediction_methods import PredictionMethods
from pyserving.api.request_log import LogType, RequestAndResponse
from pyserving.api.session_run import session_run
from pyserving.api.status import StatusApi
from pyserving.api.status_name import status_name
from pyserving.api.tap import Tap
from pyserving.batching.executor import EngineExecutor
from pyserving.core.errors import ServingError, invalid_argument
from pyserving.core.servable import ServableId
from pyserving.monitoring.serving_metrics import FULL, ServingMetrics
from pyserving.protos import messages

R = TypeVar("R")

WithModelSpec = (
    messages.PredictRequest
    | messages.ClassificationRequest
    | messages.RegressionRequest
    | messages.SessionRunRequest
    | messages.GetModelStatusRequest
    | messages.GetModelMetadataRequest
)

Reload = Callable[[messages.ModelServerConfig], Awaitable[None]]
"""Makes a config true; raises ServingError."""

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_SESSION = "/tensorflow.serving.SessionService/"

_LONG = 1 << 20
"""Bytes of a message that is kept only where something looks on at the answers."""


class RpcApi:
    """The methods of the gRPC interface."""

    def __init__(
        self,
        models: Models,
        status: StatusApi,
        executor: EngineExecutor,
        metrics: ServingMetrics,
        reload: Reload,
        *,
        as_tensor_content: bool = False,
        check_method_names: bool = False,
        session_service: bool = False,
        taps: Mapping[str, Tap] = {},
    ) -> None:
        """``as_tensor_content``: outputs are written to tensor_content, not to the ``*_val`` fields.

        ``check_method_names``: see Engine. ``session_service``: clients may run any part of a model's graph.
        ``taps``: what looks on at the answers, by model; it may change at any time.
        """
        self._reload = reload
        self._models = models
        self._status = status
        self._executor = executor
        self._session_service = session_service
        self._prediction = PredictionMethods(
            executor, metrics, as_tensor_content=as_tensor_content, check_method_names=check_method_names
        )
        self._metrics = metrics
        self._streamed = metrics.answers("PredictStreamed", "GRPC")
        self._taps = taps

    def methods(self) -> Mapping[str, RpcHandler]:
        """By full name, as in the path of a call."""
        methods = {
            _PREDICTION + "Predict": self._recorded("Predict", PredictCallReader().read, self._predict),
            _PREDICTION + "Classify": self._recorded(
                "Classify", partial(parse_message, messages.ClassificationRequest), self._classify
            ),
            _PREDICTION + "Regress": self._recorded(
                "Regress", partial(parse_message, messages.RegressionRequest), self._regress
            ),
            _PREDICTION + "MultiInference": self._recorded(
                "MultiInference", partial(parse_message, messages.MultiInferenceRequest), self._multi_inference
            ),
            _PREDICTION + "GetModelMetadata": self._get_model_metadata,
            _MODEL + "GetModelStatus": self._get_model_status,
            _MODEL + "HandleReloadConfigRequest": self._handle_reload_config_request,
        }
        if self._session_service:
            methods[_SESSION + "SessionRun"] = self._recorded(
                "SessionRun", partial(parse_message, messages.SessionRunRequest), self._session_run
            )
        return methods

    def streaming(self) -> Mapping[str, StreamHandler]:
        """The methods that answer with a stream, by full name."""
        return {_PREDICTION + "PredictStreamed": self._predict_streamed}

    async def _predict_streamed(self, given: AsyncIterator[bytes], context: RpcContext) -> AsyncGenerator[bytes, None]:
        start = perf_counter()
        data = await only_message(given)
        request = parse_message(messages.PredictRequest, data)
        name = request.model_spec.name
        _check_caller(context, name)
        try:
            with await self._models.acquired(_model_spec(request), context.deadline, context.metadata) as handle:
                tap = self._taps.get(handle.id.name)
                log = tap.stream(handle.id, request.model_spec.signature_name) if tap else None
                async with aclosing(
                    self._prediction.predict_streamed(handle, request, context.deadline, context.priority)
                ) as pieces:
                    async for piece in pieces:
                        if log:
                            log.add(partial(_both, data, piece))
                        yield piece
                if log:
                    log.end()
        except GeneratorExit:
            raise
        except BaseException as error:
            self._metrics.request_failed(name, status_name(error))
            raise
        self._streamed.add(name, perf_counter() - start)

    def _recorded(
        self, api: str, read: Callable[[bytes], R], answer: Callable[[R, bytes, RpcContext], Awaitable[bytes]]
    ) -> RpcHandler:
        """Reads requests and records how they end, unless they cannot be read."""
        recorder = self._metrics.answers(api, "GRPC")
        failed = self._metrics.request_failed

        async def handle(data: bytes, context: RpcContext) -> bytes:
            start = perf_counter()
            request = read(data)
            name = _model_name(request)
            _check_caller(context, name)
            if len(data) > _LONG and name not in self._taps:
                data = b""  # its strings were copied, and the engine will copy them again: twice its size is enough
            try:
                response = await answer(request, data, context)
            except BaseException as error:
                failed(name, status_name(error))
                raise
            answers = recorder[name]
            answers.append(perf_counter() - start)
            if len(answers) >= FULL:
                recorder.flush()
            return response

        return handle

    async def _predict(self, call: PredictCall, data: bytes, context: RpcContext) -> bytes:
        head = call.head
        if head.spec is None:
            raise _missing_model_spec()
        try:
            acquired = self._models.acquire(head.spec, context.metadata)
        except ServingError as error:
            acquired = await self._models.loaded(head.spec, context.deadline, context.metadata, error)
        with acquired as handle:
            response = await self._prediction.predict(handle, call, context.deadline, context.priority)
            self._tap(LogType.PREDICT, handle.id, head.signature_name, data, response)
            return response

    async def _classify(self, request: messages.ClassificationRequest, data: bytes, context: RpcContext) -> bytes:
        with await self._models.acquired(_model_spec(request), context.deadline, context.metadata) as handle:
            response = await self._prediction.classify(handle, request, context.deadline, context.priority)
            self._tap(LogType.CLASSIFY, handle.id, request.model_spec.signature_name, data, response)
            return response

    async def _regress(self, request: messages.RegressionRequest, data: bytes, context: RpcContext) -> bytes:
        with await self._models.acquired(_model_spec(request), context.deadline, context.metadata) as handle:
            response = await self._prediction.regress(handle, request, context.deadline, context.priority)
            self._tap(LogType.REGRESS, handle.id, request.model_spec.signature_name, data, response)
            return response

    async def _multi_inference(
        self, request: messages.MultiInferenceRequest, data: bytes, context: RpcContext
    ) -> bytes:
        spec = read_model_spec(request.tasks[0].model_spec) if request.tasks else ModelSpec("")
        with await self._models.acquired(spec, context.deadline, context.metadata) as handle:
            response = await self._prediction.multi_inference(handle, request, context.deadline, context.priority)
            self._tap(LogType.MULTI_INFERENCE, handle.id, "", data, response)
            return response

    async def _session_run(self, request: messages.SessionRunRequest, _: bytes, context: RpcContext) -> bytes:
        with await self._models.acquired(_model_spec(request), context.deadline, context.metadata) as handle:
            return await session_run(self._executor, handle, request, context.deadline, context.priority)

    def _tap(self, kind: LogType, servable: ServableId, signature_name: str, request: bytes, response: bytes) -> None:
        if request and (tap := self._taps.get(servable.name)):
            tap.add(kind, servable, signature_name, lambda: (request, response))

    async def _get_model_status(self, data: bytes, context: RpcContext) -> bytes:
        request = parse_message(messages.GetModelStatusRequest, data)
        _check_caller(context, request.model_spec.name)
        response = messages.GetModelStatusResponse()
        for state in self._status.states(_model_spec(request)):
            item = response.model_version_status.add(version=state.id.version, state=state.state.value)
            item.status.SetInParent()
            if state.error:
                item.status.error_code = state.error.code
                item.status.error_message = state.error.message
        return response.SerializeToString()

    async def _handle_reload_config_request(self, data: bytes, _: RpcContext) -> bytes:
        await self._reload(parse_message(messages.ReloadConfigRequest, data).config)
        response = messages.ReloadConfigResponse()
        response.status.SetInParent()
        return response.SerializeToString()

    async def _get_model_metadata(self, data: bytes, context: RpcContext) -> bytes:
        request = parse_message(messages.GetModelMetadataRequest, data)
        _check_caller(context, request.model_spec.name)
        spec = _model_spec(request)
        _check_metadata_fields(request.metadata_field)
        with await self._models.acquired(spec, context.deadline) as handle:
            definitions = messages.SignatureDefMap()
            for name, definition in handle.servable.signature_defs.items():
                definitions.signature_def[name].CopyFrom(definition)
            response = messages.GetModelMetadataResponse()
            response.model_spec.name = handle.id.name
            response.model_spec.version.value = handle.id.version
            response.metadata["signature_def"].Pack(definitions)
            return response.SerializeToString()


def _model_name(request: Any) -> str:
    """What a prediction request names, whether there is such a model or not; empty where it names none."""
    if isinstance(request, PredictCall):
        return request.head.model_name
    if isinstance(request, messages.MultiInferenceRequest):
        return request.tasks[0].model_spec.name if request.tasks else ""
    name: str = request.model_spec.name
    return name


def _check_metadata_fields(fields: Sequence[str]) -> None:
    if not fields:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != "signature_def":
            raise invalid_argument(f"Metadata field {field} is not supported")


def _model_spec(request: WithModelSpec) -> ModelSpec:
    if not request.HasField("model_spec"):
        raise _missing_model_spec()
    return read_model_spec(request.model_spec)


def _check_caller(context: RpcContext, model: str) -> None:
    """Raises PERMISSION_DENIED where this caller may not use this model."""
    context.model = model
    if context.caller is not None:
        context.caller.check_model(model)


def _missing_model_spec() -> ServingError:
    return invalid_argument("Missing ModelSpec")


def _both(request: bytes, response: bytes) -> RequestAndResponse:
    return request, response
