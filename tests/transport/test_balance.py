"""Several acceptors on one socket share its connections evenly, and none waits for another that has gone."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from http1_running import Client, echo

from pyserving.transport.balance import Balance
from pyserving.transport.http1 import Http1Server
from pyserving.transport.listener import Listener, bind_tcp, listen, port_of
from pyserving.transport.loop import new_event_loop

pytestmark = pytest.mark.parametrize(
    "loop_factory", [new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"]
)
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


async def serve(listening: socket.socket, balance: Balance, process: int) -> Listener:
    """As one worker does, but in this process."""
    share = balance.seat(process).share(0)
    listener = Listener([listening.dup()], Http1Server(echo).new_connection, share=share)
    await listener.start()
    return listener


def connect(port: int) -> Client:
    client = Client(socket.create_connection(("127.0.0.1", port), 10))
    assert client.ask(b"GET / HTTP/1.1\r\n\r\n").status == 200
    return client


def test_connections_that_stay_are_shared(loop_factory: LoopFactory) -> None:
    async def main() -> None:
        (listening,) = bind_tcp("127.0.0.1", 0)
        listen(listening)
        balance = Balance(1, 3)
        # The third process is not there: nobody leaves a connection to it.
        listeners = [await serve(listening, balance, process) for process in range(2)]
        clients = [await asyncio.to_thread(connect, port_of(listening)) for _ in range(9)]
        counts = [len(listener.connections) for listener in listeners]
        assert sum(counts) == 9
        assert min(counts) >= 3, counts

        await listeners[0].stop(0)
        clients += [await asyncio.to_thread(connect, port_of(listening)) for _ in range(3)]
        assert len(listeners[1].connections) == counts[1] + 3
        await listeners[1].stop(0)
        listening.close()
        for client in clients:
            client.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_connection_that_another_does_not_take_is_taken(loop_factory: LoopFactory) -> None:
    """The other process says that it accepts, but does not, as one that is stopped."""

    async def main() -> None:
        (listening,) = bind_tcp("127.0.0.1", 0)
        listen(listening)
        balance = Balance(1, 2)
        balance.seat(1).share(0).join()
        listener = await serve(listening, balance, 0)
        clients = [await asyncio.to_thread(connect, port_of(listening)) for _ in range(3)]
        assert len(listener.connections) == 3
        await listener.stop(0)
        listening.close()
        for client in clients:
            client.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_where_clients_connect_for_each_request_nothing_is_left_to_others(loop_factory: LoopFactory) -> None:
    del loop_factory
    balance = Balance(1, 2)
    mine, other = (balance.seat(process).share(0) for process in range(2))
    other.join()
    mine.opened("stays")
    assert mine.is_ahead
    for number in range(100):
        mine.opened(number)
        mine.closed(number)
    assert not mine.is_ahead
    assert not other.is_ahead
