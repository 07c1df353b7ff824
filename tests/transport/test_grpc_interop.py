"""The standard interoperability cases of gRPC, by their names, with grpcio as the client."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import interop_service as interop
import pytest
from grpc_serving import WAIT, Server, connect

from pyserving.transport.loop import new_event_loop

grpc = pytest.importorskip("grpc")

LARGE_REQUEST, LARGE_RESPONSE = 271828, 314159
REQUEST_SIZES = (27182, 8, 1828, 45904)
RESPONSE_SIZES = (31415, 9, 2653, 58979)
METADATA = ((interop.ECHO_INITIAL, "test_initial_metadata_value"), (interop.ECHO_TRAILING, b"\xab\xab\xab"))
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


@pytest.fixture(scope="module", params=[new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(loop_factory=request.param, unary=interop.unary(), streaming=interop.streaming()) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: Server) -> Iterator["Stub"]:
    with grpc.insecure_channel(server.address) as channel:
        yield Stub(channel)


class Stub:
    def __init__(self, channel: "grpc.Channel") -> None:
        def codec(request: str, response: str) -> tuple[Any, Any]:
            return interop.message(request).SerializeToString, interop.message(response).FromString

        name = interop.SERVICE
        output = codec("StreamingOutputCallRequest", "StreamingOutputCallResponse")
        self.channel = channel
        self.empty = channel.unary_unary(name + "EmptyCall", *codec("Empty", "Empty"))
        self.unary = channel.unary_unary(name + "UnaryCall", *codec("SimpleRequest", "SimpleResponse"))
        self.input = channel.stream_unary(
            name + "StreamingInputCall", *codec("StreamingInputCallRequest", "StreamingInputCallResponse")
        )
        self.output = channel.unary_stream(name + "StreamingOutputCall", *output)
        self.duplex = channel.stream_stream(name + "FullDuplexCall", *output)


def unary_request(**fields: Any) -> Any:
    return interop.SimpleRequest(response_size=LARGE_RESPONSE, payload={"body": bytes(LARGE_REQUEST)}, **fields)


def duplex_request(size: int, response_size: int) -> Any:
    return interop.StreamingOutputCallRequest(
        response_parameters=[{"size": response_size}], payload={"body": bytes(size)}
    )


class Turns:
    """The requests of a stream, each sent when the test says so."""

    def __init__(self) -> None:
        self._ready = threading.Semaphore(0)
        self._requests: list[Any] = []

    def send(self, request: Any) -> None:
        self._requests.append(request)
        self._ready.release()

    def end(self) -> None:
        self.send(None)

    def __iter__(self) -> Iterator[Any]:
        while True:
            self._ready.acquire()
            request = self._requests.pop(0)
            if request is None:
                return
            yield request


def test_empty_unary(stub: Stub) -> None:
    assert stub.empty(interop.message("Empty")(), timeout=WAIT) == interop.message("Empty")()


def test_large_unary(stub: Stub) -> None:
    assert stub.unary(unary_request(), timeout=WAIT).payload.body == bytes(LARGE_RESPONSE)


def test_client_compressed_unary(stub: Stub) -> None:
    request = unary_request(expect_compressed={"value": True})
    with pytest.raises(grpc.RpcError) as caught:
        stub.unary(request, timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    compressed = stub.unary(request, compression=grpc.Compression.Gzip, timeout=WAIT)
    assert compressed.payload.body == bytes(LARGE_RESPONSE)
    plain = stub.unary(unary_request(expect_compressed={"value": False}), timeout=WAIT)
    assert plain.payload.body == bytes(LARGE_RESPONSE)


@pytest.mark.parametrize("compressed", [True, False])
def test_server_compressed_unary(stub: Stub, compressed: bool) -> None:
    request = unary_request(response_compressed={"value": compressed})
    assert stub.unary(request, timeout=WAIT).payload.body == bytes(LARGE_RESPONSE)


@pytest.mark.parametrize(("accepted", "encoding"), [(b"identity, gzip", b"gzip"), (b"deflate", b"deflate")])
def test_server_compressed_unary_by_its_frames(server: Server, accepted: bytes, encoding: bytes) -> None:
    for size in (1000, 1_000_000):
        for wanted in (True, False):
            request = interop.SimpleRequest(response_size=size, response_compressed={"value": wanted})
            with connect(server) as client:
                path, accept = interop.SERVICE + "UnaryCall", (b"grpc-accept-encoding", accepted)
                answer = client.finish(client.request(request.SerializeToString(), path, accept))
            assert answer.headers.get(b"grpc-encoding") == (encoding if wanted else None)
            assert answer.data[0] == wanted
            assert (len(answer.data) < size) == wanted


def test_client_streaming(stub: Stub) -> None:
    requests = [interop.StreamingInputCallRequest(payload={"body": bytes(size)}) for size in REQUEST_SIZES]
    assert stub.input(iter(requests), timeout=WAIT).aggregated_payload_size == sum(REQUEST_SIZES)


def test_client_compressed_streaming(stub: Stub) -> None:
    def request(size: int) -> Any:
        return interop.StreamingInputCallRequest(payload={"body": bytes(size)}, expect_compressed={"value": True})

    with pytest.raises(grpc.RpcError) as caught:
        stub.input(iter([request(27182)]), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    requests = iter([request(27182), request(45904)])
    response = stub.input(requests, compression=grpc.Compression.Gzip, timeout=WAIT)
    assert response.aggregated_payload_size == 27182 + 45904


def test_server_streaming(stub: Stub) -> None:
    parameters = [{"size": size} for size in RESPONSE_SIZES]
    request = interop.StreamingOutputCallRequest(response_parameters=parameters)
    sizes = [len(response.payload.body) for response in stub.output(request, timeout=WAIT)]
    assert sizes == list(RESPONSE_SIZES)


def test_server_compressed_streaming(stub: Stub, server: Server) -> None:
    parameters = [{"size": 31415, "compressed": {"value": True}}, {"size": 92653, "compressed": {"value": False}}]
    request = interop.StreamingOutputCallRequest(response_parameters=parameters)
    assert [len(response.payload.body) for response in stub.output(request, timeout=WAIT)] == [31415, 92653]
    with connect(server) as client:
        path, accept = interop.SERVICE + "StreamingOutputCall", (b"grpc-accept-encoding", b"gzip")
        answer = client.finish(client.request(request.SerializeToString(), path, accept))
    assert answer.headers[b"grpc-encoding"] == b"gzip"
    second = 5 + int.from_bytes(answer.data[1:5], "big")
    assert (answer.data[0], answer.data[second]) == (1, 0)
    assert second < 31415


def test_ping_pong(stub: Stub) -> None:
    turns = Turns()
    responses = stub.duplex(iter(turns), timeout=WAIT)
    for size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
        turns.send(duplex_request(size, response_size))
        assert len(next(responses).payload.body) == response_size
    turns.end()
    assert list(responses) == []
    assert responses.code() is grpc.StatusCode.OK


def test_empty_stream(stub: Stub) -> None:
    responses = stub.duplex(iter(()), timeout=WAIT)
    assert list(responses) == []
    assert responses.code() is grpc.StatusCode.OK


def test_custom_metadata(stub: Stub) -> None:
    _, call = stub.unary.with_call(unary_request(), metadata=METADATA, timeout=WAIT)
    duplex = stub.duplex(iter([duplex_request(LARGE_REQUEST, LARGE_RESPONSE)]), metadata=METADATA, timeout=WAIT)
    assert len(list(duplex)) == 1
    for each in (call, duplex):
        assert METADATA[0] in [tuple(pair) for pair in each.initial_metadata()]
        assert METADATA[1] in [tuple(pair) for pair in each.trailing_metadata()]


@pytest.mark.parametrize("text", ["test status message", SPECIAL])
def test_status_code_and_message_and_special_status_message(stub: Stub, text: str) -> None:
    status = {"code": grpc.StatusCode.UNKNOWN.value[0], "message": text}
    with pytest.raises(grpc.RpcError) as caught:
        stub.unary(interop.SimpleRequest(response_status=status), timeout=WAIT)
    responses = stub.duplex(iter([interop.StreamingOutputCallRequest(response_status=status)]), timeout=WAIT)
    with pytest.raises(grpc.RpcError):
        list(responses)
    for failed in (caught.value, responses):
        assert failed.code() is grpc.StatusCode.UNKNOWN
        assert failed.details() == text


@pytest.mark.parametrize("service", ["TestService", "UnimplementedService"])
def test_unimplemented_method_and_service(stub: Stub, service: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.channel.unary_unary(f"/grpc.testing.{service}/UnimplementedCall")(b"", timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_cancel_after_begin(stub: Stub) -> None:
    turns = Turns()
    future = stub.input.future(iter(turns), timeout=WAIT)
    future.cancel()
    turns.end()
    assert future.code() is grpc.StatusCode.CANCELLED


def test_cancel_after_first_response(stub: Stub) -> None:
    turns = Turns()
    responses = stub.duplex(iter(turns), timeout=WAIT)
    turns.send(duplex_request(27182, 31415))
    assert len(next(responses).payload.body) == 31415
    responses.cancel()
    turns.end()
    with pytest.raises(grpc.RpcError):
        next(responses)
    assert responses.code() is grpc.StatusCode.CANCELLED


def test_timeout_on_sleeping_server(stub: Stub) -> None:
    turns = Turns()
    responses = stub.duplex(iter(turns), timeout=0.05)
    turns.send(interop.StreamingOutputCallRequest(payload={"body": bytes(27182)}))
    with pytest.raises(grpc.RpcError):
        next(responses)
    turns.end()
    assert responses.code() is grpc.StatusCode.DEADLINE_EXCEEDED
