"""Messages between a supervisor and its workers."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.protos import messages
from pyserving.server.channel import Channel, ChannelClosedError
from pyserving.server.control import Configure
from pyserving.server.gate_report import CheckReport, Outcome
from pyserving.sources.model_config import ModelConfig
from pyserving.transport.loop import new_event_loop

Handler = Callable[[Any], Awaitable[Any]]


async def nothing(_: object) -> None:
    return None


def between(handler: Handler, body: Callable[[Channel, Channel], Coroutine[Any, Any, None]]) -> None:
    """Runs ``body`` with a channel's two ends; the second one's messages are answered by ``handler``."""

    async def main() -> None:
        ends = socket.socketpair()
        near, far = [await Channel.open(end, use) for end, use in zip(ends, (nothing, handler), strict=True)]
        await asyncio.wait_for(body(near, far), 30)
        near.close()
        await asyncio.wait([near.closed, far.closed], timeout=30)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


def test_messages_arrive_in_order_and_answers_when_they_are_there() -> None:
    seen = []
    gate = asyncio.Event()

    async def handler(message: int) -> int:
        seen.append(message)
        if message == 1:
            await gate.wait()
        return -message

    async def body(near: Channel, _: Channel) -> None:
        near.send(0)
        first, second = near.call(1), near.call(2)
        assert await second == -2
        assert seen == [0, 1, 2]
        assert not first.done()
        gate.set()
        assert await first == -1

    between(handler, body)


def test_an_error_comes_as_it_was_raised() -> None:
    async def handler(message: str) -> None:
        if message == "bug":
            raise RuntimeError("oh")
        raise ServingError(Code.NOT_FOUND, message)

    async def body(near: Channel, _: Channel) -> None:
        for message, code, text in (("x", Code.NOT_FOUND, "x"), ("bug", Code.INTERNAL, "RuntimeError: oh")):
            with pytest.raises(ServingError) as caught:
                await near.call(message)
            assert (caught.value.code, caught.value.message) == (code, text)

    between(handler, body)


def test_who_waits_hears_of_the_end() -> None:
    async def handler(_: object) -> None:
        await asyncio.Event().wait()

    async def body(near: Channel, far: Channel) -> None:
        waiting = near.call("x")
        far.close()
        with pytest.raises(ChannelClosedError):
            await waiting
        await near.closed
        with pytest.raises(ChannelClosedError):
            await near.call("y")
        near.send("z")  # nobody is there to take it

    between(handler, body)


def test_a_config_arrives_whole() -> None:
    logging = messages.LoggingConfig()
    logging.log_collector_config.filename_prefix = "/log/x"
    options = messages.ModelOptions(gate=messages.GateOptions(manual=True))
    sent = Configure(
        [ModelConfig("m", "/base", logging_config=logging, options=options)],
        {"m": {"stable": 1}},
        {"m": 1},
        {"m": {1: (CheckReport("answers", Outcome.PASSED, "2 golden requests answered as expected"),)}},
    )

    async def handler(message: Configure) -> Configure:
        return message

    async def body(near: Channel, _: Channel) -> None:
        assert await near.call(sent) == sent

    between(handler, body)
