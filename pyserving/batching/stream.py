"""Runs of signatures that stream: pieces from a model's thread to the event loop, no faster than they are taken."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from pyserving.batching.request import deadline_exceeded
from pyserving.core.errors import Code, ServingError
from pyserving.core.handle import ServableHandle
from pyserving.monitoring.observation import Computation, current
from pyserving.platforms.model import Array, Signature, StreamCancelled, StreamingModel

_AHEAD = 2
"""Pieces that may wait to be taken before the model is made to wait."""


async def run_stream(
    handle: ServableHandle,
    signature: Signature,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    deadline: float | None,
    *,
    wait: float | None = None,
) -> AsyncGenerator[list[Array], None]:
    """The pieces of a streamed answer: of each the named outputs, in that order.

    ``deadline`` is on the clock of ``time.monotonic`` and for the whole; ``wait``, in seconds, and the model's time
    limit are for each piece. Who closes the generator, or is cancelled in it, stops the model; its version stays
    loaded until it has stopped. Raises ServingError.
    """
    model: StreamingModel = handle.servable
    outlet = _Outlet(asyncio.get_running_loop())
    shared = handle.share()
    observation = current.get()
    observed = None if observation is None else observation.run(handle.id.name, handle.id.version, signature.name)

    def job() -> None:
        try:
            if not outlet.cancelled:
                if observed is None:
                    model.stream(signature, inputs, outputs, outlet)
                else:
                    with Computation([observed], 1, 0, time.monotonic()):
                        model.stream(signature, inputs, outputs, outlet)
                outlet.end(None)
        except BaseException as error:
            outlet.end(error)
        finally:
            shared.release()

    try:
        model.threads.submit(job)
    except RuntimeError:
        shared.release()
        raise ServingError(Code.UNAVAILABLE, f"{handle.id} is being unloaded") from None
    try:
        while (piece := await outlet.take(deadline, _shorter(wait, model.time_limit))) is not None:
            yield piece
    finally:
        if observed is not None:
            observed.end()
        outlet.cancel()


def _shorter(one: float | None, other: float | None) -> float | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


class _Outlet:
    """An ``Outlet``: ``put`` and ``end`` are called by the model's thread, ``take`` and ``cancel`` on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = threading.Semaphore(_AHEAD)
        self._lock = threading.Lock()
        self.cancelled = False
        """Nobody waits any more."""
        self._callbacks: list[Callable[[], None]] = []
        self._pieces: deque[list[Array] | BaseException | None] = deque()
        self._arrival: asyncio.Future[None] | None = None

    def put(self, piece: list[Array]) -> None:
        self._room.acquire()
        if self.cancelled:
            self._room.release()
            raise StreamCancelled
        self._hand_over(piece)

    def end(self, error: BaseException | None) -> None:
        """No piece follows."""
        self._hand_over(error)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self.cancelled:
                self._callbacks.append(callback)
                return
        callback()

    async def take(self, deadline: float | None, wait: float | None) -> list[Array] | None:
        """The next piece, None after the last. Raises ServingError."""
        if not self._pieces:
            await self._wait(deadline, wait)
        piece = self._pieces.popleft()
        if isinstance(piece, BaseException):
            raise piece
        self._room.release()
        return piece

    def cancel(self) -> None:
        with self._lock:
            if self.cancelled:
                return
            self.cancelled = True
        self._room.release()
        for callback in self._callbacks:
            callback()

    async def _wait(self, deadline: float | None, wait: float | None) -> None:
        self._arrival = arrival = self._loop.create_future()
        left = None if deadline is None else deadline - time.monotonic()
        timer = None
        if left is not None and (wait is None or left < wait):
            timer = self._loop.call_later(left, _fail, arrival, deadline_exceeded())
        elif wait is not None:
            error = ServingError(Code.DEADLINE_EXCEEDED, f"the next piece of the answer took longer than {wait:g} s")
            timer = self._loop.call_later(wait, _fail, arrival, error)
        try:
            await arrival
        finally:
            self._arrival = None
            if timer is not None:
                timer.cancel()

    def _hand_over(self, piece: list[Array] | BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped, nobody waits
            self._loop.call_soon_threadsafe(self._arrived, piece)

    def _arrived(self, piece: list[Array] | BaseException | None) -> None:
        self._pieces.append(piece)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


def _fail(arrival: "asyncio.Future[None]", error: ServingError) -> None:
    if not arrival.done():
        arrival.set_exception(error)
