"""What a transport hands to the api and gets back: plain values, so that neither knows the other."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from pyserving.core.errors import Code, ServingError


class HttpRequest:
    """A whole HTTP request: headers and body were read, decoded (chunked, gzip) and checked for size."""

    __slots__ = ("body", "headers", "method", "peer", "target")

    def __init__(self, method: str, target: str, headers: Mapping[str, str], body: bytes, peer: "Peer" = None) -> None:
        self.method = method
        """As sent: ``GET``, ``POST``."""
        self.target = target
        """As sent, percent-encoding and query included."""
        self.headers = headers
        """By lower-case name; the values of a repeated header are joined with commas."""
        self.body = body
        self.peer = peer


class HttpResponse:
    """A whole answer; the transport adds Date, Content-Length and Connection."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers


class StreamedResponse(HttpResponse):
    """An answer whose body comes piece by piece. The transport closes ``pieces`` if the client goes away."""

    __slots__ = ("pieces",)

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        content_type: str,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(200, b"", content_type, headers)
        self.pieces = pieces


Peer = tuple[str, int] | tuple[str, int, int, int] | str | bytes | None
"""Address of who is at the other end of a connection, as sockets give it: a tuple, unless by a UNIX socket."""

HttpGuard = Callable[[str, str, Mapping[str, str]], HttpResponse | None]
"""Sees method, target and headers of each request of a connection before its body is read; may refuse it."""


HttpRefused = Callable[[HttpRequest, HttpResponse], None]
"""Told of each answer that comes from the transport or a guard, and not from a handler: before it is sent. Of a request
that could not be read, what is not known is empty."""


class Caller(Protocol):
    """Who asks, where what is allowed depends on the model that is asked for."""

    def check_model(self, name: str) -> None:
        """Raises PERMISSION_DENIED."""


RpcGuard = Callable[[str, Mapping[bytes, bytes]], Caller | None]
"""The same for gRPC: path and headers. Raises ServingError to refuse; what it returns becomes ``RpcContext.caller``."""

RpcRefused = Callable[[Mapping[bytes, bytes], Peer, ServingError], None]
"""The same for gRPC: told of the headers and the status of each call whose handler is not begun."""

HttpHandler = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]]
"""Answers every request, errors included. An exception that escapes is a bug: the transport answers 500."""


class RpcContext:
    """What a method may want to know of a call besides its messages, and may say besides its answers.

    Metadata are pairs of a lower-case name and a text of printable ASCII; a name that ends in ``-bin`` has base64.
    """

    initial_metadata: Sequence[tuple[str, str]] = ()
    """Sent before the first answer, and not with a failure that comes instead of it."""
    trailing_metadata: Sequence[tuple[str, str]] = ()
    """Sent with the status, failure or not."""
    priority = ""
    """As the client named it in ``x-priority``."""
    compressed = False
    """Whether the message came compressed; in a streaming call, the last one taken."""
    compress = False
    """Compress the answer where the client accepts that; in a streaming call, this and all answers up to the next
    change. There it has to be set with the first answer to have an effect on later ones."""
    peer: Peer = None
    model = ""
    """What the request names, once it was read."""
    caller: Caller | None = None
    """To be asked about each model that a request names; None: all models are allowed."""

    def __init__(self, deadline: float | None, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self.deadline = deadline
        """On the clock of ``time.monotonic``; None where the client set none."""
        self.metadata = metadata


RpcHandler = Callable[[bytes, RpcContext], Coroutine[Any, Any, bytes]]
"""One unary method: request message in, response message out. Raises ServingError for any other status."""

StreamHandler = Callable[[AsyncIterator[bytes], RpcContext], AsyncGenerator[bytes, None]]
"""One method that streams on either side or both: it takes messages as they come, and yields answers while it does or
after; both wait where the client is behind. It ends the call by its own end, or raises ServingError for any other
status. When the client gives up, CancelledError is raised where it waits."""


async def only_message(messages: AsyncIterator[bytes]) -> bytes:
    """The request of a method that streams its answers only. Raises UNIMPLEMENTED if there is none, or more."""
    async for message in messages:
        async for _ in messages:
            raise ServingError(Code.UNIMPLEMENTED, "Expected one request message, got more")
        return message
    raise ServingError(Code.UNIMPLEMENTED, "Expected one request message, got none")
