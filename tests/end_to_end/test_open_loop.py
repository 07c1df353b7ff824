"""The load generator of the benchmarks, on real sockets."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks import open_loop
from pyserving.api.exchange import HttpRequest, HttpResponse, RpcContext
from pyserving.core.errors import Code, ServingError
from pyserving.transport.grpc import GrpcConnection
from pyserving.transport.http1 import Http1Server
from pyserving.transport.listener import Listener, open_tcp, port_of
from pyserving.transport.loop import new_event_loop

RATE = 1000.0
BODY = b"a body that is longer than the buffer of a socket" * 20_000


class Server:
    """Answers the n-th request by what ``answers(n)`` says: at once, after so many more have come, or by an error."""

    def __init__(self, stall: int = 0, fail: int = 0) -> None:
        self.seen = 0
        self.stall, self.fail = stall, fail
        self.rest = self.grpc = 0
        self._free = asyncio.Event()

    async def http(self, request: HttpRequest) -> HttpResponse:
        assert request.body == BODY
        return HttpResponse(400 if await self._come() else 200, b"{}")

    async def call(self, message: bytes, _: RpcContext) -> bytes:
        assert message == BODY
        if await self._come():
            raise ServingError(Code.NOT_FOUND, "as told")
        return b""

    async def _come(self) -> bool:
        self.seen += 1
        number = self.seen
        if number > self.stall:
            self._free.set()
        await self._free.wait()
        return number <= self.fail

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        rest, grpc = open_tcp("127.0.0.1", 0), open_tcp("127.0.0.1", 0)
        listeners = [
            Listener(rest, Http1Server(self.http).new_connection),
            Listener(grpc, lambda connections: GrpcConnection(connections, {"/a.Service/Call": self.call})),
        ]
        for listener in listeners:
            await listener.start()
        self.rest, self.grpc = port_of(rest[0]), port_of(grpc[0])
        ready.set()
        await stop.wait()
        for listener in listeners:
            await listener.stop(1.0)


@contextmanager
def serving(**what: int) -> Iterator[Server]:
    ready = threading.Event()
    made: list[tuple[Server, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stop = asyncio.Event()
        server = Server(**what)
        made.append((server, asyncio.get_running_loop(), stop))
        await server.serve(ready, stop)

    def run() -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    server, loop, stop = made[0]
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


def url(server: Server, wire: str) -> str:
    if wire == "REST":
        return f"http://127.0.0.1:{server.rest}/"
    return f"grpc://127.0.0.1:{server.grpc}/a.Service/Call"


@pytest.mark.parametrize("wire", ["REST", "gRPC"])
def test_each_request_is_answered_once(wire: str) -> None:
    with serving() as server:
        latencies = open_loop.run(url(server, wire), BODY, rate=RATE, seconds=0.1)
        assert server.seen == 100
    assert not latencies.failed.any()
    assert np.isfinite(latencies.seconds).all()
    assert np.allclose(np.diff(latencies.due), 1 / RATE)
    assert latencies.percentiles([0, 100]) == [latencies.seconds.min(), latencies.seconds.max()]


@pytest.mark.parametrize("wire", ["REST", "gRPC"])
def test_requests_go_on_while_the_server_stalls_and_waiting_counts(wire: str) -> None:
    """Nothing is answered before the 50th has come: with one request at a time it never would be."""
    with serving(stall=49) as server:
        latencies = open_loop.run(url(server, wire), BODY, rate=RATE, seconds=0.1)
    assert not latencies.failed.any()
    # The first waited until the 50th was due: that long it took, at least.
    assert (latencies.seconds[:49] >= latencies.due[49] - latencies.due[:49]).all()


def test_waiting_for_a_connection_counts() -> None:
    with serving(stall=1) as server:
        latencies = open_loop.run(url(server, "REST"), BODY, rate=RATE, seconds=0.02, connections=2)
    # All but two had to wait for a connection, in the order in which they came.
    assert not latencies.failed.any()
    ends = latencies.due + latencies.seconds
    assert ends[2:].min() >= ends[1]


@pytest.mark.parametrize("wire", ["REST", "gRPC"])
def test_errors_are_counted(wire: str) -> None:
    with serving(fail=3) as server:
        latencies = open_loop.run(url(server, wire), BODY, rate=RATE, seconds=0.02)
    assert latencies.failed.sum() == 3


def test_a_process_of_its_own_gives_the_same() -> None:
    with serving() as server:
        latencies = open_loop.start(url(server, "REST"), BODY, rate=RATE, seconds=0.1).result()
        assert server.seen == 100
    assert len(latencies.due) == 100
    assert not latencies.failed.any()


def test_parts_of_a_run() -> None:
    latencies = open_loop.Latencies(np.arange(10.0), np.arange(10.0), np.zeros(10), np.zeros(10, bool), 0.0)
    assert latencies.between(2, 4).seconds.tolist() == [2, 3]
    assert latencies.during([(0, 1), (8, 20)]).seconds.tolist() == [0, 8, 9]
    assert latencies.percentiles([50, 99.9]) == [5, 9]
