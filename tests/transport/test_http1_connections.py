"""The life of a connection: kept alive, pipelined, held up, left by its client, drained."""

import asyncio
import contextlib
import logging
import queue
import socket
import struct
import threading

import pytest
from http1_running import Gates
from waiting import wait_until

from pyserving.api.exchange import HttpRequest, HttpResponse
from pyserving.core.errors import Code, ServingError
from pyserving.transport.limits import HttpLimits

BIG = 50_000_000  # more than socket buffers hold


def get(target: str, *headers: str, version: str = "1.1") -> bytes:
    return (f"GET {target} HTTP/{version}\r\n" + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode()


@pytest.mark.parametrize(
    ("version", "asked", "kept", "answered"),
    [
        ("1.1", None, True, None),
        ("1.1", "keep-alive", True, None),
        ("1.1", "close", False, "close"),
        ("1.1", "Foo, Close", False, "close"),
        ("1.0", None, False, "close"),
        ("1.0", "close", False, "close"),
        ("1.0", "Keep-Alive", True, "keep-alive"),
    ],
)
def test_keeps_the_connection_as_version_and_header_say(serve_http1, version, asked, kept, answered):
    client = serve_http1().connect()
    headers = [f"Connection: {asked}"] if asked else []
    for target in ("/1", "/2") if kept else ("/1",):
        answer = client.ask(get(target, *headers, version=version))
        assert answer.asked["target"] == target
        assert answer.headers.get("connection") == answered
    if not kept:
        assert client.rest() == b""


def test_does_not_answer_what_follows_the_last_request(serve_http1):
    client = serve_http1().connect()
    client.send(get("/1", "Connection: close") + get("/2"))
    assert client.answer().asked["target"] == "/1"
    assert client.rest() == b""


def test_answers_in_order_whatever_the_order_the_handlers_finish_in(serve_http1):
    gates = Gates()
    server = serve_http1(gates)
    client = server.connect()
    client.send(get("/1") + get("/2") + get("/3", "Connection: close"))
    assert [gates.arrived.get(timeout=10) for _ in range(3)] == ["/1", "/2", "/3"]
    for target in ("/3", "/1", "/2"):
        server.call(gates.open, target)
    assert [client.answer().body for _ in range(3)] == [b"/1", b"/2", b"/3"]
    assert client.rest() == b""


def test_refuses_in_order_too(serve_http1):
    gates = Gates()
    server = serve_http1(gates)
    client = server.connect()
    client.send(get("/1") + b"nonsense\r\n\r\n")
    assert gates.arrived.get(timeout=10) == "/1"
    server.call(gates.open, "/1")
    assert client.answer().body == b"/1"
    assert client.answer().status == 400
    assert client.rest() == b""


def test_sends_100_continue_only_after_the_answers_before_it(serve_http1):
    gates = Gates()
    server = serve_http1(gates)
    client = server.connect()
    client.send(get("/1") + b"POST /2 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert gates.arrived.get(timeout=10) == "/1"
    server.call(gates.open, "/1")
    assert client.answer().body == b"/1"
    assert client.answer().status == 100
    client.send(b"abc")
    assert gates.arrived.get(timeout=10) == "/2"
    server.call(gates.open, "/2")
    assert client.answer().body == b"/2"


def test_stops_reading_when_many_requests_wait_and_loses_none(serve_http1):
    started = []
    release = asyncio.Event()

    async def wait(request: HttpRequest) -> HttpResponse:
        started.append(request.target)
        await release.wait()
        return HttpResponse(200, request.target.encode())

    server = serve_http1(wait, HttpLimits(max_pipelined=4))
    client = server.connect()
    client.socket.settimeout(0.3)
    sent = 0
    pending = b""
    with contextlib.suppress(TimeoutError):
        while sent < 10_000:
            pending = pending or get(f"/{sent}") + get(f"/{sent + 1}", "A: " + "a" * 10_000)
            pending = pending[client.socket.send(pending) :]
            sent += 0 if pending else 2
    assert sent < 10_000  # 50 MB: the socket's buffers are full, as nothing is read any more
    wait_until(lambda: len(started) >= 4)
    assert started == ["/0", "/1", "/2", "/3"]
    client.socket.settimeout(60)
    server.call(release.set)
    finish = threading.Thread(target=client.send, args=(pending,))
    finish.start()
    assert [client.answer().body for _ in range(sent + 2)] == [b"/%d" % i for i in range(sent + 2)]
    finish.join()


@pytest.mark.parametrize("waits", [False, True])
def test_starts_no_request_of_a_client_that_does_not_read(serve_http1, waits):
    started = []

    async def big(request: HttpRequest) -> HttpResponse:
        started.append(request.target)
        if waits:
            await asyncio.sleep(0)
        return HttpResponse(200, bytes(BIG if request.target == "/1" else 5))

    server = serve_http1(big, HttpLimits(max_pipelined=1))
    client = server.connect()
    client.send(get("/1") + get("/2") + get("/3"))
    while not started:
        server.call(lambda: None)
    assert started == ["/1"]
    assert [len(client.answer().body) for _ in range(3)] == [BIG, 5, 5]


def test_aborts_a_client_that_does_not_read_for_too_long(serve_http1):
    async def big(_: HttpRequest) -> HttpResponse:
        return HttpResponse(200, bytes(BIG))

    server = serve_http1(big, HttpLimits(send_timeout=0.1))
    for headers in ([], ["Connection: close"]):
        client = server.connect()
        client.send(get("/", *headers))
        client.socket.recv(1)
        server.wait_until_none()


@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
def test_cancels_the_handlers_of_a_client_that_leaves(serve_http1, leave, caplog):
    caplog.set_level(logging.INFO)
    gates = Gates()
    server = serve_http1(gates)
    client = server.connect()
    client.send(get("/1") + get("/2"))
    assert [gates.arrived.get(timeout=10) for _ in range(2)] == ["/1", "/2"]
    if leave == "half-close":
        client.socket.shutdown(socket.SHUT_WR)
    else:
        if leave == "reset":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert {gates.cancelled.get(timeout=10) for _ in range(2)} == {"/1", "/2"}
    server.wait_until_none()
    assert caplog.records == []


@pytest.mark.parametrize(
    "data", [b"", b"GE", b"GET / HTTP/1.1\r\nHo", b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"]
)
def test_says_nothing_when_a_request_is_cut_off(serve_http1, data, caplog):
    caplog.set_level(logging.INFO)
    server = serve_http1()
    client = server.connect()
    client.send(get("/") + data)
    assert client.answer().status == 200
    client.socket.shutdown(socket.SHUT_WR)
    assert client.rest() == b""
    assert caplog.records == []


def raise_error(_: HttpRequest) -> HttpResponse:
    raise RuntimeError("a bug")


def raise_serving_error(_: HttpRequest) -> HttpResponse:
    raise ServingError(Code.NOT_FOUND, "should have been answered")


def raise_cancelled(_: HttpRequest) -> HttpResponse:
    raise asyncio.CancelledError


def split_header(_: HttpRequest) -> HttpResponse:
    return HttpResponse(200, b"", headers=[("A", "b\r\nSet-Cookie: c")])


def unencodable_header(_: HttpRequest) -> HttpResponse:
    return HttpResponse(200, b"", headers=[("A", "\u20ac")])


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("bug", [raise_error, raise_serving_error, raise_cancelled, split_header, unencodable_header])
def test_answers_500_to_what_escapes_the_handler_and_lives_on(serve_http1, bug, waits, caplog):
    async def handler(request: HttpRequest) -> HttpResponse:
        if waits:
            await asyncio.sleep(0)
        return bug(request) if request.target == "/bug" else HttpResponse(200, b"fine")

    client = serve_http1(handler).connect()
    for _ in range(2):
        answer = client.ask(get("/bug"))
        assert (answer.status, answer.error) == (500, "internal error")
        assert client.ask(get("/")).body == b"fine"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 2
    assert all(record.name == "pyserving.transport" and record.exc_info for record in errors)


def test_answers_500_when_the_handler_is_no_coroutine_function(serve_http1, caplog):
    client = serve_http1(raise_error).connect()
    answer = client.ask(get("/"))
    assert (answer.status, answer.error) == (500, "internal error")
    assert caplog.records[-1].exc_info[0] is RuntimeError
    assert client.rest() == b""


def test_drain_answers_what_is_in_flight_and_closes_the_idle_soon(serve_http1):
    gates = Gates()
    server = serve_http1(gates)
    idle, busy, reading = server.connect(), server.connect(), server.connect()
    busy.send(get("/1") + get("/2"))
    reading.send(b"POST /3 HTTP/1.1\r\nContent-Length: 3\r\n\r\na")
    assert [gates.arrived.get(timeout=10) for _ in range(2)] == ["/1", "/2"]
    while len(server.listener.connections) < 3:
        server.call(lambda: None)

    aborted = asyncio.run_coroutine_threadsafe(server.listener.stop(20), server.loop)
    assert idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    server.call(gates.open, "/1")
    server.call(gates.open, "/2")
    first, last = busy.answer(), busy.answer()
    assert (first.body, first.headers.get("connection")) == (b"/1", None)
    assert (last.body, last.headers.get("connection")) == (b"/2", "close")
    assert busy.rest() == b""

    assert not aborted.done()
    reading.send(b"bc")
    assert gates.arrived.get(timeout=10) == "/3"
    server.call(gates.open, "/3")
    assert reading.answer().headers["connection"] == "close"
    assert aborted.result(10) == 0


def test_drain_answers_a_request_that_was_on_its_way(serve_http1):
    server = serve_http1(limits=HttpLimits(drain_wait=10))
    client = server.connect()
    assert client.ask(get("/1")).headers.get("connection") is None
    server.call(server.listener.connections.drain)
    answer = client.ask(get("/2"))
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert client.rest() == b""


def test_drain_takes_no_request_after_the_answer_that_said_so(serve_http1):
    seen = []

    async def draining(request: HttpRequest) -> HttpResponse:
        seen.append(request.target)
        server.listener.connections.drain()
        return HttpResponse(200, b"")

    server = serve_http1(draining)
    client = server.connect()
    client.send(get("/1") + get("/2"))
    assert client.answer().headers["connection"] == "close"
    assert client.rest() == b""
    assert seen == ["/1"]


def test_drain_ends_a_connection_with_requests_yet_unread(serve_http1):
    started: queue.SimpleQueue[str] = queue.SimpleQueue()
    release = asyncio.Event()

    async def wait(request: HttpRequest) -> HttpResponse:
        started.put(request.target)
        await release.wait()
        return HttpResponse(200, b"")

    server = serve_http1(wait, HttpLimits(max_pipelined=2))
    client = server.connect()
    client.send(get("/") * 5000)
    for _ in range(2):
        started.get(timeout=10)
    server.call(server.listener.connections.drain)
    server.call(release.set)
    answers = 1
    while "connection" not in client.answer().headers:
        answers += 1
    assert 2 <= answers < 5000
    assert client.rest() == b""


def test_drain_aborts_what_is_not_done_within_the_grace_period(serve_http1):
    gates = Gates()
    server = serve_http1(gates)
    client = server.connect()
    client.send(get("/1"))
    assert gates.arrived.get(timeout=10) == "/1"
    assert server.run(server.listener.stop(0.05)) == 1
    assert gates.cancelled.get(timeout=10) == "/1"
    assert client.rest() == b""
