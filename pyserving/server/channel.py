"""Messages between two of a server's own processes, both ways over one socket."""

import asyncio
import logging
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from pyserving.core.errors import Code, ServingError

logger = logging.getLogger("pyserving.server")

_LENGTH = struct.Struct("!I")
_NO_ANSWER = 0

Handler = Callable[[Any], Awaitable[Any]]
"""Takes a message and returns the answer to it; raises ServingError. What it does before it first waits is done before
the next message is looked at."""


class ChannelClosedError(ConnectionError):
    """The other process has gone."""


class Channel:
    """Each side may ask and is asked. Messages arrive in the order in which they were sent; answers come when they do.

    They are pickled, each behind its length: both ends are the same program, and nobody else can reach the socket.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        self._writer = writer
        self._handler = handler
        self._numbers = count(_NO_ANSWER + 1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self.closed = asyncio.ensure_future(self._read(reader))
        """Done when the other process has gone, or after ``close``."""

    @classmethod
    async def open(cls, end: socket.socket, handler: Handler) -> "Channel":
        """``end``: of a pair of stream sockets, which the channel then owns."""
        return cls(*await asyncio.open_unix_connection(sock=end), handler)

    def send(self, message: object) -> None:
        """Sends what needs no answer; nothing happens where there is nobody to take it."""
        self._write((_NO_ANSWER, True, message))

    def call(self, message: object) -> asyncio.Future[Any]:
        """Sends at once; the result is the answer. It raises ServingError as the handler did, or ChannelClosedError."""
        answer = asyncio.get_running_loop().create_future()
        if self.closed.done():
            answer.set_exception(ChannelClosedError())
            return answer
        number = next(self._numbers)
        self._waiting[number] = answer
        self._write((number, True, message))
        return answer

    def close(self) -> None:
        self._writer.close()

    def _write(self, frame: tuple[int, bool, object]) -> None:
        if not self._writer.is_closing():
            data = pickle.dumps(frame)
            self._writer.write(_LENGTH.pack(len(data)) + data)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                number, asks, content = pickle.loads(await reader.readexactly(length))
                if asks:
                    answering = asyncio.ensure_future(self._answer(number, content))
                    self._answering.add(answering)
                    answering.add_done_callback(self._answering.discard)
                else:
                    self._settle(number, content)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ChannelClosedError())
            self._waiting.clear()

    def _settle(self, number: int, content: object) -> None:
        answer = self._waiting.pop(number)
        if answer.done():  # whoever asked waits no more
            return
        if isinstance(content, ServingError):
            answer.set_exception(content)
        else:
            answer.set_result(content)

    async def _answer(self, number: int, message: object) -> None:
        try:
            answer = await self._handler(message)
        except ServingError as error:
            answer = ServingError(error.code, error.message)
        except Exception as error:
            logger.exception("Could not answer %s", type(message).__name__)
            answer = ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        if number != _NO_ANSWER:
            self._write((number, False, answer))
