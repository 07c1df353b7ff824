"""Listening sockets: addresses, ports, UNIX files, and the errors of what cannot be listened on."""

import asyncio
import os
import socket
from collections.abc import Callable

import pytest
from http1_running import Client, echo

from pyserving.core.errors import Code, ServingError
from pyserving.transport.http1 import Http1Server
from pyserving.transport.listener import Listener, address_of, open_tcp, open_unix, port_of
from pyserving.transport.loop import new_event_loop

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no UNIX sockets here")
loops = pytest.mark.parametrize("loop_factory", [new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def ask(connected: socket.socket) -> int:
    client = Client(connected)
    try:
        return client.ask(b"GET / HTTP/1.1\r\n\r\n").status
    finally:
        client.close()


def ask_tcp(host: str, port: int) -> int:
    return ask(socket.create_connection((host, port), 10))


def ask_unix(path: str) -> int:
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(path)
    return ask(connected)


async def serve(sockets: list[socket.socket], *, remove_files: bool = True) -> Listener:
    listener = Listener(sockets, Http1Server(echo).new_connection, remove_files=remove_files)
    await listener.start()
    return listener


@needs_ipv6
@loops
def test_an_empty_host_is_every_address_by_either_family(loop_factory: LoopFactory):
    async def main() -> None:
        sockets = open_tcp("", 0)
        listener = await serve(sockets)
        for host in ("127.0.0.1", "::1"):
            assert await asyncio.to_thread(ask_tcp, host, port_of(sockets[0])) == 200
        await listener.stop(0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@needs_ipv6
def test_a_name_of_several_addresses_gets_one_port():
    sockets = open_tcp("localhost", 0)
    try:
        assert {address_of(listening) for listening in sockets} <= {
            f"127.0.0.1:{port_of(sockets[0])}",
            f"[::1]:{port_of(sockets[0])}",
        }
    finally:
        for listening in sockets:
            listening.close()


def test_a_port_in_use_is_an_error_that_names_it():
    taken = open_tcp("127.0.0.1", 0)[0]
    with taken, pytest.raises(ServingError, match=f"127.0.0.1:{port_of(taken)}.*in use") as raised:
        open_tcp("127.0.0.1", port_of(taken))
    assert raised.value.code == Code.ALREADY_EXISTS
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_an_error(port):
    with pytest.raises(ServingError, match=f"0 to 65535, got {port}"):
        open_tcp("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "not a host", "a" * 300])
def test_a_host_that_is_not_ours_is_an_error_that_names_it(host):
    with pytest.raises(ServingError, match=host) as raised:
        open_tcp(host, 0)
    assert raised.value.code == Code.INVALID_ARGUMENT


@needs_unix
@loops
def test_serves_on_a_unix_socket_and_removes_its_file(loop_factory: LoopFactory, tmp_path):
    path = str(tmp_path / "serving.sock")

    async def main() -> None:
        listener = await serve([open_unix(path)])
        assert listener.addresses == (f"unix:{path}",)
        assert await asyncio.to_thread(ask_unix, path) == 200
        assert await listener.stop(5) == 0

    for _ in range(2):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        assert not os.path.exists(path)


@needs_unix
def test_replaces_the_file_of_a_server_that_is_gone(tmp_path):
    path = str(tmp_path / "serving.sock")
    open_unix(path).close()
    assert os.path.exists(path)
    with open_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


@needs_unix
def test_does_not_take_the_place_of_a_live_server_or_of_another_file(tmp_path):
    path = str(tmp_path / "serving.sock")
    with open_unix(path):
        with pytest.raises(ServingError, match="another server listens") as raised:
            open_unix(path)
        assert raised.value.code == Code.ALREADY_EXISTS
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    plain = tmp_path / "notes.txt"
    plain.write_text("mine")
    with pytest.raises(ServingError, match="no socket"):
        open_unix(str(plain))
    assert plain.read_text() == "mine"


@needs_unix
@pytest.mark.parametrize(
    ("path", "code"), [("/no/such/folder/x.sock", Code.NOT_FOUND), ("x" * 300, Code.INVALID_ARGUMENT)]
)
def test_a_path_that_cannot_be_is_an_error_that_names_it(path, code):
    with pytest.raises(ServingError, match=f"unix:{path}") as raised:
        open_unix(path)
    assert raised.value.code == code


@needs_unix
@loops
def test_listeners_share_an_inherited_socket_and_leave_its_file(loop_factory: LoopFactory, tmp_path):
    """As worker processes do: one stops, the other goes on."""
    path = str(tmp_path / "serving.sock")

    async def main() -> None:
        opened = open_unix(path)
        first = await serve([opened.dup()], remove_files=False)
        second = await serve([opened.dup()], remove_files=False)
        await first.stop(0)
        assert await asyncio.to_thread(ask_unix, path) == 200
        await second.stop(0)
        opened.close()
        assert os.path.exists(path)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@loops
def test_a_connection_accepted_during_a_drain_is_drained_too(loop_factory: LoopFactory):
    async def main() -> None:
        sockets = open_tcp("127.0.0.1", 0)
        listener = await serve(sockets)
        listener.connections.drain()
        connected = socket.create_connection(("127.0.0.1", port_of(sockets[0])))
        with connected:
            connected.settimeout(10)
            assert await asyncio.to_thread(connected.recv, 1) == b""
        await listener.stop(5)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
