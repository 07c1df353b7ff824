"""The Open Inference Protocol over gRPC: ``inference.GRPCInferenceService``."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import NamedTuple

from pyserving.api.exchange import RpcContext, RpcHandler, StreamHandler
from pyserving.api.long_work import LONG_BODY, LONG_MESSAGE, on_thread
from pyserving.api.oip_inference import OipInference
from pyserving.api.oip_models import model_spec, shape_of
from pyserving.api.oip_repository import OipRepository
from pyserving.api.oip_server import EXTENSIONS, NAME, OipServer, config_of
from pyserving.api.parse_message import parse_message
from pyserving.core.errors import ServingError
from pyserving.monitoring.serving_metrics import ServingMetrics
from pyserving.platforms.model import TensorSpec
from pyserving.protos import messages
from pyserving.wire.oip_messages import lift_raw_contents, read_infer, write_infer
from pyserving.wire.oip_request import InferRequest
from pyserving.wire.oip_tensors import datatype_text
from pyserving.wire.tensor_proto import varint

_SERVICE = "/inference.GRPCInferenceService/"
_WITH_FINAL = "triton_enable_empty_final_response"
"""A parameter by which a streaming client asks to be told, by an answer without outputs, that a request is answered."""
_FINAL = "triton_final_response"


class OipRpc:
    """The methods of GRPCInferenceService."""

    def __init__(
        self, server: OipServer, inference: OipInference, repository: OipRepository, metrics: ServingMetrics
    ) -> None:
        self._server = server
        self._inference = inference
        self._repository = repository
        self._recorder = metrics.answers("ModelInfer", "GRPC")
        self._stream_recorder = metrics.answers("ModelStreamInfer", "GRPC")

    def methods(self) -> Mapping[str, RpcHandler]:
        """By full name, as in the path of a call."""
        return {
            _SERVICE + "ServerLive": self._server_live,
            _SERVICE + "ServerReady": self._server_ready,
            _SERVICE + "ServerMetadata": self._server_metadata,
            _SERVICE + "ModelReady": self._model_ready,
            _SERVICE + "ModelMetadata": self._model_metadata,
            _SERVICE + "ModelInfer": self._model_infer,
            _SERVICE + "ModelConfig": self._model_config,
            _SERVICE + "ModelStatistics": self._model_statistics,
            _SERVICE + "RepositoryIndex": self._repository_index,
            _SERVICE + "RepositoryModelLoad": self._repository_model_load,
            _SERVICE + "RepositoryModelUnload": self._repository_model_unload,
        }

    def streaming(self) -> Mapping[str, StreamHandler]:
        """The methods that answer with a stream, by full name."""
        return {_SERVICE + "ModelStreamInfer": self._model_stream_infer}

    async def _model_infer(self, data: bytes, context: RpcContext) -> bytes:
        start = perf_counter()
        parsed = await _parse_infer(data)
        message = parsed.message
        name = message.model_name
        _check_caller(context, name)
        try:
            request = await _read_infer(parsed)
            spec = model_spec(name, message.model_version)
            parts = await self._inference.infer(
                spec,
                request,
                context.metadata,
                context.deadline,
                context.priority,
                lambda servable, results: write_infer(servable, request, results),
                perf_counter() - start,
            )
        except BaseException as error:
            self._inference.failed(name, error)
            raise
        answer = await on_thread(b"".join, parts) if sum(map(len, parts)) >= LONG_MESSAGE else b"".join(parts)
        self._recorder.add(name, perf_counter() - start)
        return answer

    async def _model_stream_infer(
        self, given: AsyncIterator[bytes], context: RpcContext
    ) -> AsyncGenerator[bytes, None]:
        """Answers one request after the other, each with one message or more. An error of a request is told in a
        message, and does not end the stream."""
        async for data in given:
            start = perf_counter()
            parsed = await _parse_infer(data)
            message = parsed.message
            name = message.model_name
            try:
                _check_caller(context, name)
                request = await _read_infer(parsed)
                spec = model_spec(name, message.model_version)
                pieces = self._inference.stream(spec, request, context.metadata, context.deadline, context.priority)
                servable = None
                async with aclosing(pieces):
                    async for servable, results in pieces:
                        yield _streamed(b"".join(write_infer(servable, request, results)))
                if servable is not None and request.parameters.get(_WITH_FINAL) is True:
                    yield _streamed(b"".join(write_infer(servable, request, {}, {_FINAL: True})))
            except GeneratorExit:
                raise
            except BaseException as error:
                self._inference.failed(name, error)
                if not isinstance(error, ServingError):
                    raise
                failure = messages.ModelStreamInferResponse(error_message=error.message)
                failure.infer_response.id = message.id
                yield failure.SerializeToString()
                continue
            self._stream_recorder.add(name, perf_counter() - start)

    async def _server_live(self, data: bytes, _: RpcContext) -> bytes:
        parse_message(messages.ServerLiveRequest, data)
        return messages.ServerLiveResponse(live=self._server.live).SerializeToString()

    async def _server_ready(self, data: bytes, _: RpcContext) -> bytes:
        parse_message(messages.ServerReadyRequest, data)
        return messages.ServerReadyResponse(ready=self._server.ready).SerializeToString()

    async def _server_metadata(self, data: bytes, _: RpcContext) -> bytes:
        parse_message(messages.ServerMetadataRequest, data)
        response = messages.ServerMetadataResponse(name=NAME, version=self._server.version, extensions=EXTENSIONS)
        return response.SerializeToString()

    async def _model_ready(self, data: bytes, context: RpcContext) -> bytes:
        request = parse_message(messages.ModelReadyRequest, data)
        _check_caller(context, request.name)
        ready = self._server.model_ready(model_spec(request.name, request.version))
        return messages.ModelReadyResponse(ready=ready).SerializeToString()

    async def _model_metadata(self, data: bytes, context: RpcContext) -> bytes:
        request = parse_message(messages.ModelMetadataRequest, data)
        _check_caller(context, request.name)
        facts = await self._server.facts(model_spec(request.name, request.version), context.deadline)
        response = messages.ModelMetadataResponse(
            name=facts.id.name,
            versions=facts.versions,
            platform=facts.platform,
            inputs=map(_tensor_metadata, facts.signature.inputs.values()),
            outputs=map(_tensor_metadata, facts.signature.outputs.values()),
        )
        return response.SerializeToString()

    async def _model_config(self, data: bytes, context: RpcContext) -> bytes:
        request = parse_message(messages.ModelConfigRequest, data)
        _check_caller(context, request.name)
        facts = await self._server.facts(model_spec(request.name, request.version), context.deadline)
        config = messages.InferenceModelConfig(**config_of(facts))
        return messages.ModelConfigResponse(config=config).SerializeToString()

    async def _model_statistics(self, data: bytes, context: RpcContext) -> bytes:
        request = parse_message(messages.ModelStatisticsRequest, data)
        _check_caller(context, request.name)
        found = await self._server.statistics(model_spec(request.name, request.version) if request.name else None)
        response = messages.ModelStatisticsResponse()
        response.model_stats.extend(statistics.message(servable) for servable, statistics in found.items())
        return response.SerializeToString()

    async def _repository_model_load(self, data: bytes, _: RpcContext) -> bytes:
        request = parse_message(messages.RepositoryModelLoadRequest, data)
        await self._repository.load(request.model_name, request.parameters)
        return messages.RepositoryModelLoadResponse().SerializeToString()

    async def _repository_model_unload(self, data: bytes, _: RpcContext) -> bytes:
        request = parse_message(messages.RepositoryModelUnloadRequest, data)
        await self._repository.unload(request.model_name, request.parameters)
        return messages.RepositoryModelUnloadResponse().SerializeToString()

    async def _repository_index(self, data: bytes, _: RpcContext) -> bytes:
        request = parse_message(messages.RepositoryIndexRequest, data)
        response = messages.RepositoryIndexResponse()
        for line in self._server.index(ready=request.ready):
            response.models.add(**line._asdict())
        return response.SerializeToString()


class _Parsed(NamedTuple):
    """A request that is a message, its tensors not read yet."""

    message: messages.ModelInferRequest
    raw: Sequence[memoryview]
    """The raw values that were taken out of it."""
    size: int
    """Bytes of what was left."""


async def _parse_infer(data: bytes) -> _Parsed:
    """Raises INTERNAL."""
    rest, raw = lift_raw_contents(data)
    if len(rest) < LONG_BODY:
        return _Parsed(parse_message(messages.ModelInferRequest, rest), raw, len(rest))
    return _Parsed(await on_thread(parse_message, messages.ModelInferRequest, rest), raw, len(rest))


async def _read_infer(parsed: _Parsed) -> InferRequest:
    """On a thread where much is to be copied: raw numbers are read where they lie. Raises ServingError."""
    message, raw, size = parsed
    if raw and any(item.datatype == "BYTES" for item in message.inputs):
        size += sum(map(len, raw))
    return await on_thread(read_infer, message, raw) if size >= LONG_BODY else read_infer(message, raw)


def _tensor_metadata(spec: TensorSpec) -> messages.ModelMetadataResponse.TensorMetadata:
    return messages.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=datatype_text(spec.dtype), shape=shape_of(spec)
    )


def _streamed(response: bytes) -> bytes:
    """A serialized ModelStreamInferResponse with this answer."""
    return b"\x12" + varint(len(response)) + response  # infer_response = 2


def _check_caller(context: RpcContext, model: str) -> None:
    """Raises PERMISSION_DENIED where this caller may not use this model."""
    context.model = model
    if context.caller is not None:
        context.caller.check_model(model)
