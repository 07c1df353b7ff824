"""grpcio, the client that most users have, sync and aio."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from grpc_serving import WAIT, Server

from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.loop import new_event_loop

grpc = pytest.importorskip("grpc")

ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def method(channel: "grpc.Channel", name: str) -> "grpc.UnaryUnaryMultiCallable":
    return channel.unary_unary(f"/test.Test/{name}", None, None)


@pytest.fixture(scope="module", params=[new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(loop_factory=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator["grpc.Channel"]:
    with grpc.insecure_channel(server.address, options=ANY_SIZE) as opened:
        yield opened


@pytest.mark.parametrize("name", ["Echo", "EchoLater"])
@pytest.mark.parametrize("message", [b"", b"x", bytes(range(256)) * 1000])
def test_a_call(channel: "grpc.Channel", name: str, message: bytes) -> None:
    answer, call = method(channel, name).with_call(message, timeout=WAIT)
    assert answer == message
    assert call.code() is grpc.StatusCode.OK


def test_a_message_of_40_mb_both_ways(channel: "grpc.Channel") -> None:
    message = bytes(range(256)) * (40 * 1024 * 1024 // 256)
    assert method(channel, "Echo")(message, timeout=WAIT) == message


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("size", [100, 10_000_000])
def test_compression(channel: "grpc.Channel", algorithm: "grpc.Compression", size: int) -> None:
    message = bytes(byte % 7 for byte in range(100)) * (size // 100)
    assert method(channel, "Echo")(message, compression=algorithm, timeout=WAIT) == message


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("NOT_FOUND", "Servable not found for request: Latest(nope)"),
        ("INVALID_ARGUMENT", 'first line\nsecond line\r\n\ttabbed, 100% "quoted"'),
        ("FAILED_PRECONDITION", "größer, 日本語, 🙂"),
        ("UNAVAILABLE", ""),
        ("UNIMPLEMENTED", "later"),
    ],
)
def test_error_texts(channel: "grpc.Channel", code: str, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "Fail")(f"{code} {text}".encode(), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode[code]
    assert caught.value.details() == text


def test_a_long_error_text_stays_below_the_headers_a_client_takes(channel: "grpc.Channel") -> None:
    # grpcio refuses headers over a soft limit at random, so once would prove little.
    for _ in range(50):
        with pytest.raises(grpc.RpcError) as caught:
            method(channel, "Fail")(b"INTERNAL " + "ü\n".encode() * 10_000, timeout=WAIT)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert caught.value.details().startswith("ü\nü\n")


def test_an_unknown_method(channel: "grpc.Channel") -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "Nothing")(b"", timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "Unknown method /test.Test/Nothing"


def test_an_exception(channel: "grpc.Channel") -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "Break")(b"", timeout=WAIT)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "internal error")


def test_a_message_over_the_limit() -> None:
    with (
        Server(GrpcLimits(max_receive_message=1000)) as server,
        grpc.insecure_channel(server.address, options=ANY_SIZE) as channel,
    ):
        for size in (1001, 20_000_000):  # the second cannot be sent before it is refused
            with pytest.raises(grpc.RpcError) as caught:
                method(channel, "Echo")(bytes(size), timeout=WAIT)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert caught.value.details() == f"Received message larger than max ({size} vs. 1000)"
        assert method(channel, "Echo")(bytes(1000), timeout=WAIT) == bytes(1000)


def test_a_deadline(server: Server, channel: "grpc.Channel") -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "Wait")(b"", timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.methods.waiting.acquire(timeout=WAIT)
    assert server.methods.cancelled.acquire(timeout=WAIT)


def test_the_deadline_reaches_the_handler(server: Server, channel: "grpc.Channel") -> None:
    method(channel, "Echo")(b"", timeout=3600)
    method(channel, "Echo")(b"")
    deadlines = [context.deadline for context in server.methods.contexts[-2:]]
    assert deadlines[0] is not None
    assert deadlines[1] is None


def test_a_cancel_reaches_the_handler(server: Server, channel: "grpc.Channel") -> None:
    future = method(channel, "Wait").future(b"")
    assert server.methods.waiting.acquire(timeout=WAIT)
    future.cancel()
    assert server.methods.cancelled.acquire(timeout=WAIT)


def test_metadata_reaches_the_handler(server: Server, channel: "grpc.Channel") -> None:
    method(channel, "Echo")(b"", metadata=[("x-request-id", "abc"), ("x-raw-bin", b"\x00\xff")], timeout=WAIT)
    metadata = dict(server.methods.contexts[-1].metadata)
    assert metadata["x-request-id"] == "abc"
    assert metadata["x-raw-bin"].rstrip("=") == "AP8"
    assert metadata["user-agent"].startswith("grpc-python/")
    assert not [name for name in metadata if name.startswith(("grpc-", ":")) or name in ("te", "content-type")]


def test_a_unix_socket(tmp_path: Path) -> None:
    with (
        Server(unix=str(tmp_path / "grpc.sock")) as server,
        grpc.insecure_channel(f"unix:{tmp_path}/grpc.sock") as channel,
    ):
        assert server.address == f"unix:{tmp_path}/grpc.sock"
        assert method(channel, "Echo")(b"x", timeout=WAIT) == b"x"


def test_a_client_that_waits_for_the_server(tmp_path: Path) -> None:
    path = tmp_path / "late.sock"
    failed_once = threading.Event()

    def watch(state: "grpc.ChannelConnectivity") -> None:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            failed_once.set()

    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        channel.subscribe(watch)
        future = method(channel, "Echo").future(b"x", wait_for_ready=True, timeout=WAIT)
        assert failed_once.wait(WAIT)
        with Server(unix=str(path)):
            assert future.result() == b"x"


def test_many_connections_at_once(server: Server) -> None:
    def talk(n: int) -> bytes:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.address, options=options) as channel:
            return b"".join(method(channel, "Echo")(b"%d" % n, timeout=WAIT) for _ in range(5))

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(talk, range(40))) == [b"%d" % n * 5 for n in range(40)]


def test_a_hundred_concurrent_calls_of_one_aio_channel(server: Server) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(server.address, options=ANY_SIZE) as channel:
            echo = {name: channel.unary_unary(f"/test.Test/{name}") for name in ("Echo", "EchoLater")}
            calls = [echo[name](b"%d" % n * 10_000, timeout=WAIT) for n in range(100) for name in ("Echo", "EchoLater")]
            assert await asyncio.gather(*calls) == [b"%d" % n * 10_000 for n in range(100) for _ in range(2)]

    asyncio.run(scenario())


def test_an_aio_call_cancelled(server: Server) -> None:
    async def scenario() -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = channel.unary_unary("/test.Test/Wait")(b"")
            assert await asyncio.to_thread(server.methods.waiting.acquire, timeout=WAIT)
            call.cancel()
            assert await asyncio.to_thread(server.methods.cancelled.acquire, timeout=WAIT)
            assert call.cancelled()

    asyncio.run(scenario())


def test_more_calls_than_a_connection_may_have() -> None:
    with (
        Server(GrpcLimits(max_concurrent_streams=4)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        futures = [method(channel, "Wait").future(b"%d" % n, timeout=WAIT) for n in range(20)]
        for _ in range(4):
            assert server.methods.waiting.acquire(timeout=WAIT)
        assert not server.methods.waiting.acquire(blocking=False)
        server.open_gate()
        assert [future.result() for future in futures] == [b"%d" % n for n in range(20)]


def test_stopping_during_calls_fails_none_that_was_accepted() -> None:
    """Some calls wait in handlers, others come without pause, while the server stops."""
    with Server() as first, grpc.insecure_channel(first.address) as channel:
        waiting = [method(channel, "Wait").future(b"%d" % n, timeout=WAIT) for n in range(20)]
        for _ in waiting:
            assert first.methods.waiting.acquire(timeout=WAIT)
        failures: list[grpc.StatusCode] = []
        answered = threading.Semaphore(0)
        stopping = threading.Event()

        def hammer() -> None:
            while True:
                try:
                    method(channel, "EchoLater")(b"x", timeout=WAIT)
                except grpc.RpcError as error:
                    failures.append(error.code())
                    assert stopping.is_set()
                    return
                answered.release()

        with ThreadPoolExecutor(9) as pool:
            hammers = [pool.submit(hammer) for _ in range(8)]
            for _ in range(200):
                assert answered.acquire(timeout=WAIT)
            stopping.set()
            stopped = pool.submit(first.stop, WAIT)
            for done in hammers:
                done.result(WAIT)  # each ended with the first call that found no server
            first.open_gate()
            assert stopped.result(WAIT) == 0
        assert [future.result() for future in waiting] == [b"%d" % n for n in range(20)]
        # Each hammer's last call found no server to connect to: no call that a server had begun was lost.
        assert failures == [grpc.StatusCode.UNAVAILABLE] * 8
