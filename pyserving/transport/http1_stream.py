"""The body of an HTTP/1.1 answer that comes piece by piece, in chunks (RFC 9112, 7.1)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from pyserving.transport.eager import EagerTask

CHUNKED = b"Transfer-Encoding: chunked\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


class StreamOwner(Protocol):
    """The connection, as the stream sees it."""

    @property
    def write_paused(self) -> bool:
        """The client is behind. Once it is not, ``ResponseStream.resume`` is called."""
        ...

    def write(self, data: bytes) -> None: ...

    def stream_ended(self, error: BaseException | None) -> None:
        """All was written; or ``error`` escaped from the pieces, and the body is not whole."""
        ...


class ResponseStream:
    """Writes pieces as they come, and waits while the client is behind."""

    def __init__(self, owner: StreamOwner, pieces: AsyncGenerator[bytes, None], head: bytes, *, chunked: bool) -> None:
        """``head``: what to write before the body. Not ``chunked``: the body ends with the connection."""
        self.started = False
        self._owner = owner
        self._pieces = pieces
        self._head = head
        self._chunked = chunked
        self._resumed: asyncio.Future[None] | None = None
        self._task: EagerTask[None] | None = None

    def start(self) -> None:
        """To be called when the answers before it were written."""
        self.started = True
        self._owner.write(self._head)
        self._task = EagerTask(self._run(), self._on_done)

    def resume(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    def cancel(self) -> None:
        """The client is gone: closes the pieces."""
        if not self.started:
            self.started = True
            self._task = EagerTask(self._pieces.aclose(), lambda _result, _error: None)
        elif self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                if not piece:  # it would be the last chunk
                    continue
                self._owner.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
                if self._owner.write_paused:
                    self._resumed = asyncio.get_running_loop().create_future()
                    await self._resumed
        if self._chunked:
            self._owner.write(_LAST_CHUNK)

    def _on_done(self, _: None, error: BaseException | None) -> None:
        self._owner.stream_ended(error)
