"""The servers that a client may ask, and which of them it asks next."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from pyserving.client.address import Address, Protocol, parse_address
from pyserving.client.call import Call, Codec, Connection
from pyserving.client.discovery import find_out
from pyserving.client.errors import NotOffered, Unreachable
from pyserving.client.http1 import RestConnection
from pyserving.client.rest_codec import RestCodec
from pyserving.client.tls import Tls
from pyserving.core.errors import Code, ServingError

if TYPE_CHECKING:
    from pyserving.client.grpc_channel import GrpcConnection

T = TypeVar("T")
Make = Callable[[Codec], Call[T]]

_FAULTS = frozenset((Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS))
"""What may lie in the server that was asked; all else would come from any."""
FAULTS_IN_A_ROW = 5
FIRST_EJECTION = 0.5
LONGEST_EJECTION = 30.0


class Peer:
    """One server: an address, and the connections that were found to work there."""

    def __init__(self, address: Address, tls: Tls, headers: Sequence[tuple[str, str]]) -> None:
        self.address = address
        self.in_flight = 0
        self.ejected_until = 0.0
        """The event loop's time."""
        self._tls = tls
        self._headers = headers
        self._ways: list[tuple[Codec, Connection]] = []
        self.here: tuple[Codec, GrpcConnection] | None = None
        """The way that a thread can go by itself, if it is the first one."""
        self._opening = asyncio.Lock()
        self._faults = 0
        self._ejections = 0
        self._ejected_at = 0.0

    async def ask(self, make: Make[T], timeout: float) -> T:
        begun = asyncio.get_running_loop().time()
        end = begun + timeout
        self.in_flight += 1
        try:
            call, connection = await self.way(make, timeout)
            answer = await connection.ask(call, max(end - asyncio.get_running_loop().time(), 0.001))
        except ServingError as error:
            self._note(error)
            raise
        else:
            self._worked(begun)
            return answer
        finally:
            self.in_flight -= 1

    async def stream(self, make: Make[T], timeout: float) -> AsyncGenerator[T, None]:
        begun = asyncio.get_running_loop().time()
        self.in_flight += 1
        try:
            call, connection = await self.way(make, timeout)
            async with aclosing(connection.stream(call, timeout)) as pieces:
                async for piece in pieces:
                    yield piece
            self._worked(begun)
        except ServingError as error:
            self._note(error)
            raise
        finally:
            self.in_flight -= 1

    def was_late(self) -> None:
        """Another server was asked later, and answered first."""
        self._fault(FAULTS_IN_A_ROW)

    async def close(self) -> None:
        for _, connection in self._ways:
            await connection.close()

    async def protocols(self, timeout: float) -> list[Address]:
        """The addresses that are asked, in the order in which they are tried."""
        await self._open(timeout)
        return self._found

    async def way(self, make: Make[T], timeout: float) -> tuple[Call[T], Connection]:
        """The first protocol that has the method."""
        if not self._ways:
            await self._open(timeout)
        missing: NotOffered | None = None
        for codec, connection in self._ways:
            try:
                return make(codec), connection
            except NotOffered as error:
                missing = error
        assert missing is not None
        raise missing

    async def _open(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout), self._opening:
                if self._ways:
                    return
                context = (
                    await asyncio.to_thread(self._tls.context)
                    if self.address.tls
                    else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                )
                self._found = await find_out(self.address, context)
                self._ways = [self._connect(address) for address in self._found]
        except TimeoutError:
            raise Unreachable(f"{self.address} does not answer: nothing came within {timeout:.3g} s") from None

    def _connect(self, address: Address) -> tuple[Codec, Connection]:
        if address.protocol is Protocol.GRPC:
            # Here, for grpcio takes long to import, and who speaks REST needs none of it.
            from pyserving.client.grpc_channel import GrpcConnection
            from pyserving.client.grpc_codec import GrpcCodec

            metadata = [(name.lower(), value) for name, value in self._headers]
            way = GrpcCodec(), GrpcConnection(address, self._tls, metadata)
            if address == self._found[0]:
                self.here = way
            return way
        return RestCodec(), RestConnection(address, self._tls.context() if address.tls else None, self._headers)

    def _note(self, error: ServingError) -> None:
        """Outlier ejection, as Envoy calls it: who cannot be reached, or fails many times in a row, is left alone for
        a while that grows."""
        if error.code in _FAULTS:
            self._fault(1 if isinstance(error, Unreachable) else FAULTS_IN_A_ROW)

    def _fault(self, enough: int) -> None:
        """``enough``: of these in a row for an ejection."""
        now = asyncio.get_running_loop().time()
        if now < self.ejected_until:  # what was under way when it went away fails together, and says nothing new
            return
        self._faults += 1
        if self._faults >= enough:
            self.ejected_until = now + min(FIRST_EJECTION * 2**self._ejections, LONGEST_EJECTION)
            self._ejections = min(self._ejections + 1, 10)
            self._faults = 0
            self._ejected_at = now

    def _worked(self, begun: float) -> None:
        """A request was answered that was sent at ``begun``; if that was after an ejection, as all were ejected, that
        is over."""
        self._faults = self._ejections = 0
        if begun >= self._ejected_at:
            self.ejected_until = 0.0


class Peers:
    """All servers of a client."""

    def __init__(self, addresses: Sequence[str], tls: Tls | None, headers: Sequence[tuple[str, str]]) -> None:
        """Raises INVALID_ARGUMENT."""
        parsed = [parse_address(text, tls=tls is not None) for text in addresses]
        self._all = [Peer(address, tls or Tls(), headers) for address in dict.fromkeys(parsed)]
        self._turn = 0

    def __len__(self) -> int:
        return len(self._all)

    def only(self) -> Peer | None:
        """The one there is, if there are no others."""
        return self._all[0] if len(self._all) == 1 else None

    def pick(self, avoid: Sequence[Peer] = ()) -> Peer:
        """One that is not ejected, and not in ``avoid`` if that can be, with the fewest requests under way; of equals,
        each in its turn. If all are ejected, the one whose time ends first."""
        now = asyncio.get_running_loop().time()
        candidates = [peer for peer in self._all if peer not in avoid] or self._all
        healthy = [peer for peer in candidates if peer.ejected_until <= now]
        if not healthy:
            healthy = [peer for peer in self._all if peer.ejected_until <= now]
        if not healthy:
            return min(candidates, key=lambda peer: peer.ejected_until)
        self._turn += 1
        turn = self._turn % len(healthy)
        return min(healthy[turn:] + healthy[:turn], key=lambda peer: peer.in_flight)

    def others(self, asked: Sequence[Peer]) -> bool:
        """Whether there is one that was not asked and is not ejected."""
        now = asyncio.get_running_loop().time()
        return any(peer not in asked and peer.ejected_until <= now for peer in self._all)

    async def close(self) -> None:
        for peer in self._all:
            await peer.close()
