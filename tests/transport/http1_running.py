"""A server on a real socket, its loop in a thread of its own, and a client that sends and reads raw bytes."""

import asyncio
import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

from pyserving.api.exchange import HttpHandler, HttpRequest, HttpResponse
from pyserving.transport.http1 import Http1Server
from pyserving.transport.limits import HttpLimits
from pyserving.transport.listener import Listener, open_tcp, port_of


async def echo(request: HttpRequest) -> HttpResponse:
    """Answers what it was asked."""
    asked = {
        "method": request.method,
        "target": request.target,
        "headers": dict(request.headers),
        "body": request.body.decode("latin-1"),
    }
    return HttpResponse(200, json.dumps(asked).encode())


class Gates:
    """A handler whose every request waits at the gate named by its target until the test opens it."""

    def __init__(self) -> None:
        self.arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.cancelled: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.waiting: dict[str, asyncio.Future[HttpResponse]] = {}

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        gate = self.waiting[request.target] = asyncio.get_running_loop().create_future()
        self.arrived.put(request.target)
        try:
            return await gate
        except asyncio.CancelledError:
            self.cancelled.put(request.target)
            raise

    def open(self, target: str) -> None:
        self.waiting.pop(target).set_result(HttpResponse(200, target.encode(), "text/plain"))


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        assert self.headers["content-type"] == "application/json"
        return str(json.loads(self.body)["error"])

    @property
    def asked(self) -> Any:
        assert self.status == 200, self
        return json.loads(self.body)


class Client:
    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.settimeout(60)
        self._file = connected.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, has_body: bool = True) -> Answer:
        status_line = self._file.readline()
        assert status_line.startswith(b"HTTP/1.1 "), status_line
        headers = {}
        while (line := self._file.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), line
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0)) if has_body else 0
        body = self._file.read(length)
        assert len(body) == length
        return Answer(int(status_line.split()[1]), headers, body)

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.answer()

    def line(self) -> bytes:
        return self._file.readline()

    def exactly(self, size: int) -> bytes:
        return self._file.read(size)

    def rest(self) -> bytes:
        """What comes up to the end of the connection."""
        return self._file.read()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


class Running:
    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Listener, port: int) -> None:
        self.loop = loop
        self.listener = listener
        self.port = port
        self._clients: list[Client] = []

    def connect(self) -> Client:
        client = Client(socket.create_connection(("127.0.0.1", self.port)))
        self._clients.append(client)
        return client

    def ask(self, data: bytes) -> Answer:
        return self.connect().ask(data)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def call() -> Any:
            return function(*arguments)

        return self.run(call())

    def wait_until_none(self) -> None:
        self.run(self.listener.connections.wait_until_none())

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def running(
    handler: HttpHandler,
    limits: HttpLimits | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> Iterator[Running]:
    loop = loop_factory()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        sockets = open_tcp("127.0.0.1", 0)

        async def start() -> Listener:
            listener = Listener(sockets, Http1Server(handler, limits).new_connection)
            await listener.start()
            return listener

        listener = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
        server = Running(loop, listener, port_of(sockets[0]))
        try:
            yield server
        finally:
            server.close_clients()
            server.run(listener.stop(0))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
