"""``grpc.testing.TestService`` as gRPC's interoperability tests describe it (github.com/grpc/grpc,
doc/interop-test-descriptions.md), served by our transport."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from pyserving.api.exchange import RpcContext, RpcHandler, StreamHandler
from pyserving.core.errors import Code, ServingError, invalid_argument

PACKAGE = "grpc.testing"
SERVICE = f"/{PACKAGE}.TestService/"
ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"

_FIELDS: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "Empty": {},
    "BoolValue": {1: ("bool", "value")},
    "Payload": {1: ("int32", "type"), 2: ("bytes", "body")},
    "EchoStatus": {1: ("int32", "code"), 2: ("string", "message")},
    "SimpleRequest": {
        1: ("int32", "response_type"),
        2: ("int32", "response_size"),
        3: ("Payload", "payload"),
        6: ("BoolValue", "response_compressed"),
        7: ("EchoStatus", "response_status"),
        8: ("BoolValue", "expect_compressed"),
    },
    "SimpleResponse": {1: ("Payload", "payload")},
    "StreamingInputCallRequest": {1: ("Payload", "payload"), 2: ("BoolValue", "expect_compressed")},
    "StreamingInputCallResponse": {1: ("int32", "aggregated_payload_size")},
    "ResponseParameters": {1: ("int32", "size"), 2: ("int32", "interval_us"), 3: ("BoolValue", "compressed")},
    "StreamingOutputCallRequest": {
        1: ("int32", "response_type"),
        2: ("repeated ResponseParameters", "response_parameters"),
        3: ("Payload", "payload"),
        7: ("EchoStatus", "response_status"),
    },
    "StreamingOutputCallResponse": {1: ("Payload", "payload")},
}


def _message(name: str) -> DescriptorProto:
    message = DescriptorProto(name=name)
    for number, (kind, field_name) in _FIELDS[name].items():
        kind_name = kind.removeprefix("repeated ")
        field = message.field.add(name=field_name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
        if kind_name != kind:
            field.label = FieldDescriptorProto.LABEL_REPEATED
        if kind_name in _FIELDS:
            field.type = FieldDescriptorProto.TYPE_MESSAGE
            field.type_name = f".{PACKAGE}.{kind_name}"
        else:
            field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind_name.upper()}")
    return message


_POOL = DescriptorPool()
_POOL.Add(
    FileDescriptorProto(name="interop.proto", package=PACKAGE, syntax="proto3", message_type=map(_message, _FIELDS))
)


def message(name: str) -> Any:
    """The class of a message, such as ``SimpleRequest``."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


SimpleRequest = message("SimpleRequest")
SimpleResponse = message("SimpleResponse")
StreamingInputCallRequest = message("StreamingInputCallRequest")
StreamingInputCallResponse = message("StreamingInputCallResponse")
StreamingOutputCallRequest = message("StreamingOutputCallRequest")
StreamingOutputCallResponse = message("StreamingOutputCallResponse")


def unary() -> Mapping[str, RpcHandler]:
    return {SERVICE + "EmptyCall": _empty_call, SERVICE + "UnaryCall": _unary_call}


def streaming() -> Mapping[str, StreamHandler]:
    return {
        SERVICE + "StreamingInputCall": _streaming_input_call,
        SERVICE + "StreamingOutputCall": _full_duplex_call,
        SERVICE + "FullDuplexCall": _full_duplex_call,
    }


async def _empty_call(data: bytes, _: RpcContext) -> bytes:
    assert data == b""
    return b""


async def _unary_call(data: bytes, context: RpcContext) -> bytes:
    _echo_metadata(context)
    request = SimpleRequest.FromString(data)
    _check_compressed(request, context)
    _check_status(request)
    context.compress = request.response_compressed.value
    response = SimpleResponse(payload={"body": bytes(request.response_size)})
    return bytes(response.SerializeToString())


async def _streaming_input_call(messages: AsyncIterator[bytes], context: RpcContext) -> AsyncGenerator[bytes, None]:
    size = 0
    async for data in messages:
        request = StreamingInputCallRequest.FromString(data)
        _check_compressed(request, context)
        size += len(request.payload.body)
    yield StreamingInputCallResponse(aggregated_payload_size=size).SerializeToString()


async def _full_duplex_call(messages: AsyncIterator[bytes], context: RpcContext) -> AsyncGenerator[bytes, None]:
    _echo_metadata(context)
    async for data in messages:
        request = StreamingOutputCallRequest.FromString(data)
        _check_status(request)
        for wanted in request.response_parameters:
            if wanted.interval_us:
                await asyncio.sleep(wanted.interval_us / 1e6)
            context.compress = wanted.compressed.value
            yield StreamingOutputCallResponse(payload={"body": bytes(wanted.size)}).SerializeToString()


def _echo_metadata(context: RpcContext) -> None:
    context.initial_metadata = [pair for pair in context.metadata if pair[0] == ECHO_INITIAL]
    context.trailing_metadata = [pair for pair in context.metadata if pair[0] == ECHO_TRAILING]


def _check_status(request: Any) -> None:
    if request.HasField("response_status"):
        raise ServingError(Code(request.response_status.code), request.response_status.message)


def _check_compressed(request: Any, context: RpcContext) -> None:
    if request.HasField("expect_compressed") and request.expect_compressed.value != context.compressed:
        raise invalid_argument(f"Expected compressed: {request.expect_compressed.value}, got {context.compressed}")
