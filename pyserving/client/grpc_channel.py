"""gRPC by grpcio's channels.

The channels of ``grpc``, not of ``grpc.aio``: the latter share a socket that wakes every event loop of the process, and
log an error where there are two (github.com/grpc/grpc/issues/25364). A synchronous client brings a loop of its own.
"""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import grpc

from pyserving.client.address import Address
from pyserving.client.call import Call
from pyserving.client.errors import CLOSED, Unreachable
from pyserving.client.tls import Tls
from pyserving.core.errors import Code, ServingError

T = TypeVar("T")

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.lb_policy_name", "round_robin"),  # over all addresses that a name has
    # Each channel has connections of its own, and soon tries again where there was no server.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class GrpcConnection:
    """One channel, with one HTTP/2 connection to each address that the name has."""

    def __init__(self, address: Address, tls: Tls, metadata: Sequence[tuple[str, str]]) -> None:
        self._address = address
        self._metadata = tuple(metadata)
        target = f"unix:{address.unix}" if address.unix else address.authority
        if address.tls:
            credentials = grpc.ssl_channel_credentials(*tls.contents())
            self._channel = grpc.secure_channel(target, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, _OPTIONS)
        self._unary: dict[str, Any] = {}
        self._closed = False

    def ask_here(self, call: Call[T], timeout: float) -> T:
        """``ask`` on the calling thread, which waits. Any thread may call.

        It takes less than half of the CPU time of ``ask`` from another thread: no thread has to be woken.
        """
        try:
            answer = self._method(call.path)(call.body, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._error(error) from None
        except ValueError as error:
            raise self._refused(error) from None
        return call.read(answer)

    async def ask(self, call: Call[T], timeout: float) -> T:
        method = self._method(call.path)
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        try:
            future = method.future(call.body, timeout=timeout, metadata=self._metadata)
        except ValueError as error:
            raise self._refused(error) from None
        future.add_done_callback(lambda _: _call_soon(loop, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            future.cancel()
            raise
        if future.code() is not grpc.StatusCode.OK:
            raise self._error(future)
        return call.read(future.result())

    async def stream(self, call: Call[T], timeout: float) -> AsyncGenerator[T, None]:
        answers: Any
        try:
            answers = self._channel.unary_stream(call.path)(call.body, timeout=timeout, metadata=self._metadata)
        except ValueError as error:
            raise self._refused(error) from None
        try:
            while True:
                # grpcio calls back at the end of a stream, not for each piece; a thread waits for that.
                piece = await asyncio.to_thread(_next, answers)
                if piece is None:
                    break
                yield call.read(piece)
        except grpc.RpcError:
            raise self._error(answers) from None
        finally:
            answers.cancel()

    async def close(self) -> None:
        self._closed = True
        self._channel.close()

    def _refused(self, error: ValueError) -> Exception:
        """For what grpcio does not even try, as calls after the end."""
        return ServingError(Code.CANCELLED, CLOSED) if self._closed else error

    def _method(self, path: str) -> Any:
        method = self._unary.get(path)
        if method is None:
            method = self._unary[path] = self._channel.unary_unary(path)
        return method

    def _error(self, ended: Any) -> ServingError:
        code = Code(ended.code().value[0])
        details = ended.details() or ""
        # Only so does grpcio tell what a server said from what it found itself.
        said_by_server = "received from peer" in (ended.debug_error_string() or "")
        if code is Code.UNAVAILABLE and not said_by_server:
            why = "nothing listens there (connection refused)" if "Connection refused" in details else details
            return Unreachable(f"{self._address} does not answer: {why}")
        if code is Code.DEADLINE_EXCEEDED and not said_by_server:
            return ServingError(code, f"no answer from {self._address} in time")
        return ServingError(code, details)


def _next(answers: Any) -> bytes | None:
    piece: bytes | None = next(answers, None)
    return piece


def _call_soon(loop: AbstractEventLoop, waiter: "asyncio.Future[None]") -> None:
    """Called on one of grpcio's threads."""
    with suppress(RuntimeError):  # the loop was closed under a call
        loop.call_soon_threadsafe(_wake, waiter)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
