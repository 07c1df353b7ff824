"""A gRPC server in a thread of its own, for clients that block; and a client that may send any frame."""

import asyncio
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import ngh2

from pyserving.api.exchange import RpcContext, RpcHandler, StreamHandler
from pyserving.core.errors import Code, ServingError
from pyserving.transport.grpc import GrpcConnection
from pyserving.transport.grpc_limits import GrpcLimits
from pyserving.transport.listener import Listener, open_tcp, open_unix
from pyserving.transport.loop import new_event_loop

WAIT = 20.0
"""Seconds after which a test that waits has failed."""


class Methods:
    """What the test server serves. ``/test.Test/Wait`` answers when ``gate`` opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = threading.Semaphore(0)
        """Released once per call that waits at the gate."""
        self.cancelled = threading.Semaphore(0)
        self.contexts: list[RpcContext] = []
        self.runs = 0

    def all(self) -> Mapping[str, RpcHandler]:
        return {
            "/test.Test/Echo": self.echo,
            "/test.Test/EchoLater": self.echo_later,
            "/test.Test/Wait": self.wait,
            "/test.Test/Fail": self.fail,
            "/test.Test/Break": self.break_,
            "/test.Test/Fill": self.fill,
        }

    def streaming(self) -> Mapping[str, StreamHandler]:
        return {
            "/test.Test/Chat": self.chat,
            "/test.Test/Pour": self.pour,
            "/test.Test/Sip": self.sip,
            "/test.Test/Settle": self.settle,
        }

    async def chat(self, messages: AsyncIterator[bytes], context: RpcContext) -> AsyncGenerator[bytes, None]:
        """Each message back; ``!CODE text`` ends the call by that, ``.`` by its own end."""
        self.contexts.append(context)
        async for message in messages:
            if message == b".":
                return
            if message[:1] == b"!":
                await self.fail(message[1:], context)
            yield message

    async def pour(self, messages: AsyncIterator[bytes], _: RpcContext) -> AsyncGenerator[bytes, None]:
        """``count size``: so many messages of that size."""
        async for message in messages:
            count, size = map(int, message.split())
            for _number in range(count):
                self.runs += 1
                yield bytes(size)

    async def sip(self, messages: AsyncIterator[bytes], _: RpcContext) -> AsyncGenerator[bytes, None]:
        """Takes no message before ``gate`` opens; yields how many bytes there were."""
        taken = 0
        self.waiting.release()
        await self.gate.wait()
        async for message in messages:
            taken += len(message)
            self.runs += 1
        yield b"%d" % taken

    async def settle(self, messages: AsyncIterator[bytes], _: RpcContext) -> AsyncGenerator[bytes, None]:
        """Never ends by itself; tells when it is cancelled."""
        self.waiting.release()
        try:
            yield b"begun"
            await self.gate.wait()
            async for message in messages:
                yield message
        except asyncio.CancelledError:
            self.cancelled.release()
            raise

    async def echo(self, message: bytes, context: RpcContext) -> bytes:
        self.runs += 1
        self.contexts.append(context)
        return message

    async def echo_later(self, message: bytes, context: RpcContext) -> bytes:
        await asyncio.sleep(0)
        return await self.echo(message, context)

    async def wait(self, message: bytes, _: RpcContext) -> bytes:
        self.waiting.release()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise
        return message

    async def fail(self, message: bytes, _: RpcContext) -> bytes:
        code, _, text = message.decode().partition(" ")
        raise ServingError(Code[code], text)

    async def break_(self, message: bytes, _: RpcContext) -> bytes:
        raise ZeroDivisionError(f"secret {message!r}")

    async def fill(self, message: bytes, _: RpcContext) -> bytes:
        """As many bytes as the message says."""
        self.runs += 1
        return bytes(int(message))


class Server:
    def __init__(
        self,
        limits: GrpcLimits | None = None,
        unix: str | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
        tls: ssl.SSLContext | None = None,
        unary: Mapping[str, RpcHandler] | None = None,
        streaming: Mapping[str, StreamHandler] | None = None,
    ) -> None:
        """Serves ``Methods``, and ``unary`` and ``streaming`` besides."""
        self._tls = tls
        self._unary = unary or {}
        self._streaming = streaming or {}
        self._loop_factory = loop_factory
        self._limits = limits
        self._unix = unix
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.methods: Methods
        self.listener: Listener
        self.loop: asyncio.AbstractEventLoop

    def __enter__(self) -> "Server":
        self._thread.start()
        assert self._ready.wait(WAIT)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(WAIT)
        assert not self._thread.is_alive()

    @property
    def address(self) -> str:
        return self.listener.addresses[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def call(self, function: Callable[[], None]) -> None:
        """Runs ``function`` on the server's loop."""
        self.loop.call_soon_threadsafe(function)

    def open_gate(self) -> None:
        self.call(self.methods.gate.set)

    def stop(self, grace: float) -> int:
        return asyncio.run_coroutine_threadsafe(self.listener.stop(grace), self.loop).result(WAIT)

    def connections(self) -> int:
        async def count() -> int:
            return len(self.listener.connections)

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(WAIT)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self.methods = Methods()
        methods = {**self.methods.all(), **self._unary}
        streaming = {**self.methods.streaming(), **self._streaming}
        sockets = [open_unix(self._unix)] if self._unix else open_tcp("127.0.0.1", 0)
        self.listener = Listener(
            sockets,
            lambda connections: GrpcConnection(connections, methods, self._limits, streaming),
            tls=self._tls,
        )
        await self.listener.start()
        self._ready.set()
        await self._over.wait()
        await self.listener.stop(0)


@dataclass
class Answer:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytes = b""
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    reset: int | None = None
    closed: bool = False
    """The answer is complete, or the stream was reset."""

    @property
    def status(self) -> int:
        return int((self.trailers or self.headers)[b"grpc-status"])

    @property
    def text(self) -> str:
        return (self.trailers or self.headers).get(b"grpc-message", b"").decode()

    @property
    def message(self) -> bytes:
        assert self.status == 0, self.text
        assert self.data[0] == 0
        assert int.from_bytes(self.data[1:5], "big") == len(self.data) - 5
        return self.data[5:]


def prefixed(message: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


class FrameClient:
    """The client's half of HTTP/2, without a socket: keeps what came by stream."""

    def __init__(self, settings: Mapping[int, int] | None = None) -> None:
        self.h2 = ngh2.Connection(ngh2.Role.CLIENT)
        self.h2.initiate_connection(settings)
        self.answers: dict[int, Answer] = defaultdict(Answer)
        self.goaways: list[ngh2.GoAwayReceived] = []
        self.pings = 0
        self.over = False
        """No stream is left and a GOAWAY forbids more: ngh2 takes no more bytes."""

    def begin(
        self,
        path: str = "/test.Test/Echo",
        *extra: tuple[bytes, bytes],
        end: bool = False,
        method: bytes = b"POST",
        content_type: bytes = b"application/grpc",
    ) -> int:
        return self.h2.send_request(
            [
                (b":method", method),
                (b":scheme", b"http"),
                (b":path", path.encode()),
                (b":authority", b"test"),
                (b"content-type", content_type),
                (b"te", b"trailers"),
                *extra,
            ],
            end_stream=end,
        )

    def request(self, message: bytes, path: str = "/test.Test/Echo", *extra: tuple[bytes, bytes]) -> int:
        stream = self.begin(path, *extra)
        self.h2.send_data(stream, prefixed(message), end_stream=True)
        return stream

    def receive(self, data: bytes) -> None:
        if self.over:
            return
        self.h2.receive_data(data)
        self.take_events()

    def take_events(self) -> None:
        for event in self.h2.events():
            match event:
                case ngh2.ResponseReceived(stream, headers, end):
                    self.answers[stream].headers = dict(headers)
                    self.answers[stream].closed |= end
                case ngh2.DataReceived(stream, data, end):
                    self.answers[stream].data += data
                    self.answers[stream].closed |= end
                case ngh2.TrailersReceived(stream, headers):
                    self.answers[stream].trailers = dict(headers)
                    self.answers[stream].closed = True
                case ngh2.StreamReset(stream, code):
                    self.answers[stream].reset = code
                    self.answers[stream].closed = True
                case ngh2.GoAwayReceived():
                    self.goaways.append(event)
                case ngh2.PingReceived():
                    self.pings += 1
                case ngh2.ConnectionClosed():
                    self.over = True


class SocketClient(FrameClient):
    def __init__(self, server: Server, settings: Mapping[int, int] | None = None) -> None:
        super().__init__(settings)
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
        self.eof = False

    def send(self) -> None:
        while data := self.h2.data_to_send():
            self.socket.sendall(data)
        self.take_events()

    def step(self) -> None:
        """Sends what is ready, then waits for bytes once."""
        self.send()
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            self.eof = True
        else:
            self.receive(data)
            self.send()

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert not self.eof, "the server closed"
            self.step()

    def finish(self, *streams: int) -> Answer:
        """Waits until these streams are answered; the last one's answer."""
        self.until(lambda: all(self.answers[stream].closed for stream in streams))
        return self.answers[streams[-1]]

    def until_eof(self) -> None:
        while not self.eof:
            self.step()


@contextmanager
def connect(server: Server, settings: Mapping[int, int] | None = None) -> Iterator[SocketClient]:
    client = SocketClient(server, settings)
    try:
        yield client
    finally:
        client.socket.close()
