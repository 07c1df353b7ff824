"""Listening sockets, TCP and UNIX, and the connections accepted on them: accept, drain, stop."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pyserving.core.errors import Code, ServingError
from pyserving.transport.balance import BalancedAcceptor, Share, open_accepted
from pyserving.transport.write_turn import WriteTurn

HANDSHAKE_SECONDS = 10.0
"""From a connection to the end of its TLS handshake; the same again for its end. asyncio's own 60 and 30 let a client
hold connections with which nothing was said yet."""
BACKLOG = 1024
"""Connections the kernel may hold that were not accepted yet (Linux caps it at net.core.somaxconn)."""


class Connection(asyncio.Protocol):
    """One accepted connection. It adds itself to its Connections once made and removes itself once lost."""

    def drain(self) -> None:
        """Take no new request; close once the ones in flight are answered: soon if there is none."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close without waiting for anything; requests in flight are cancelled."""
        raise NotImplementedError


class Connections:
    """The live connections of one listener."""

    __slots__ = ("_draining", "_empty", "_live", "_share", "write_turn")

    def __init__(self, share: Share | None = None) -> None:
        """``share`` is told of them."""
        self._share = share
        self.write_turn = WriteTurn()
        self._live: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._live))

    def add(self, connection: Connection) -> None:
        """Called by ``connection_made``. A connection that was accepted just before a drain is drained, too."""
        self._live.add(connection)
        self._empty.clear()
        if self._share is not None:
            self._share.opened(connection)
        if self._draining:
            connection.drain()

    def remove(self, connection: Connection) -> None:
        """Called by ``connection_lost``."""
        self._live.discard(connection)
        if self._share is not None:
            self._share.closed(connection)
        if not self._live:
            self._empty.set()

    def drain(self) -> None:
        self._draining = True
        for connection in self:
            connection.drain()

    def abort(self) -> None:
        for connection in self:
            connection.abort()

    async def wait_until_none(self) -> None:
        await self._empty.wait()


class Listener:
    """Accepts connections on listening sockets and runs a protocol on each.

    In a worker process ``share`` says which part of the connections it is to take, and ``remove_files`` is False: the
    supervisor that opened the sockets removes the files of UNIX sockets. To be made and used inside a running event
    loop.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        new_connection: Callable[[Connections], Connection],
        *,
        tls: ssl.SSLContext | None = None,
        backlog: int = BACKLOG,
        remove_files: bool = True,
        share: Share | None = None,
        handshake_timeout: float = HANDSHAKE_SECONDS,
    ) -> None:
        self.connections = Connections(share)
        self.addresses = tuple(address_of(listening) for listening in sockets)
        """Where clients find it: ``127.0.0.1:8501``, ``[::1]:8501``, ``unix:/run/serving.sock``."""
        self._sockets = tuple(sockets)
        self._new_connection = new_connection
        self._tls = tls
        self._timeouts: dict[str, Any] = {} if tls is None else dict.fromkeys(_TLS_TIMEOUTS, handshake_timeout)
        self._backlog = backlog
        self._files = [path for path in map(_path_of, sockets) if path is not None] if remove_files else []
        self._share = share
        self._servers: list[asyncio.AbstractServer | BalancedAcceptor] = []
        self._opening: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._share is not None:
            self._share.join()
        for listening in self._sockets:
            if self._share is not None:
                self._servers.append(BalancedAcceptor(listening, self._make, self._tls, self._share, self._timeouts))
            elif _is_unix(listening):
                self._servers.append(
                    await loop.create_unix_server(
                        self._make,
                        sock=listening,
                        ssl=self._tls,
                        backlog=self._backlog,
                        **_LEAVE_FILE,
                    )
                )
            else:
                self._servers.append(
                    await loop.create_server(
                        self._make, sock=listening, ssl=self._tls, backlog=self._backlog, **self._timeouts
                    )
                )

    def stop_accepting(self) -> None:
        """Closes the listening sockets; connections live on. Nothing happens the second time."""
        if self._servers:
            self._take_waiting()
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._share is not None:
            self._share.leave()
        for path in self._files:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._files.clear()

    async def stop(self, grace: float) -> int:
        """Stops accepting, drains the connections, and after ``grace`` seconds aborts those that are left.

        Returns how many had to be aborted.
        """
        self.stop_accepting()
        self.connections.drain()
        try:
            async with asyncio.timeout(grace):
                await asyncio.gather(*self._opening)
                await self.connections.wait_until_none()
        except TimeoutError:
            left = len(self.connections)
            for opening in self._opening:
                opening.cancel()
            self.connections.abort()
            await self.connections.wait_until_none()
            return left
        return 0

    def _take_waiting(self) -> None:
        """Accepts what the kernel holds: to close the socket would reset these connections, and what they have sent."""
        for listening in self._sockets:
            for _ in range(self._backlog):
                try:
                    connection, _address = listening.accept()
                except OSError:  # none is left, or no descriptor is free
                    break
                opening = asyncio.ensure_future(open_accepted(connection, self._make, self._tls, self._timeouts))
                self._opening.add(opening)
                opening.add_done_callback(self._opening.discard)

    def _make(self) -> Connection:
        return self._new_connection(self.connections)


def open_tcp(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address that ``host`` names, as ``bind_tcp`` and ``listen`` make them."""
    sockets = bind_tcp(host, port)
    for bound in sockets:
        listen(bound)
    return sockets


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """A socket for every address that ``host`` names; an empty host is every address of this machine.

    The ports are taken, but a client finds them closed until ``listen``.
    Port 0 takes a free port, the same for all of them: ``port_of`` tells which. Raises ServingError that names address
    and port: ALREADY_EXISTS when it is in use, PERMISSION_DENIED, INVALID_ARGUMENT for a host that is none of ours.
    """
    if not 0 <= port <= 65535:
        raise ServingError(Code.INVALID_ARGUMENT, f"Expected a port from 0 to 65535, got {port}")
    if not host:
        # One socket for both families, so that IPv4 and IPv6 can never end up at different servers.
        dual = socket.has_dualstack_ipv6()
        addresses = [(socket.AF_INET6, "::")] if dual else [(socket.AF_INET, "0.0.0.0")]
    else:
        dual = False
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:  # names too long for DNS are UnicodeErrors
            reason = error.strerror if isinstance(error, OSError) else error
            raise ServingError(Code.INVALID_ARGUMENT, f"Cannot listen on {host!r}: {reason}") from error
        addresses = list(dict.fromkeys((family, str(sockaddr[0])) for family, _, _, _, sockaddr in found))
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            try:
                sockets.append(_bind_tcp(family, address, port, dual))
            except OSError as error:
                # "localhost" names ::1 even where a container has no IPv6.
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and len(addresses) > 1:
                    continue
                raise _cannot_listen(_join(address, port), error) from error
            port = port_of(sockets[0])
        if not sockets:
            raise ServingError(Code.INVALID_ARGUMENT, f"Cannot listen on {host!r}: it is no address of this machine")
    except ServingError:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def open_unix(path: str) -> socket.socket:
    """A listening UNIX socket, as ``bind_unix`` and ``listen`` make it."""
    bound = bind_unix(path)
    listen(bound)
    return bound


def bind_unix(path: str) -> socket.socket:
    """A UNIX socket that accepts nothing until ``listen``. The file of a server that is gone is replaced.

    Raises ServingError: ALREADY_EXISTS where a server answers at ``path`` or the file is no socket.
    """
    try:
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(path)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise _cannot_listen(f"unix:{path}", error) from error
    return listening


def listen(bound: socket.socket) -> None:
    """Opens the socket to clients. Raises ServingError: ALREADY_EXISTS where another server was quicker."""
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise _cannot_listen(address_of(bound), error) from error


def port_of(listening: socket.socket) -> int:
    """The TCP port a socket is bound to."""
    return int(listening.getsockname()[1])


def address_of(listening: socket.socket) -> str:
    if _is_unix(listening):
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return _join(host, port)


_TLS_TIMEOUTS = ("ssl_handshake_timeout", "ssl_shutdown_timeout")
# Python 3.13 removes the file when one server on it closes; other workers may still accept on it.
_LEAVE_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_unix(listening: socket.socket) -> bool:
    return hasattr(socket, "AF_UNIX") and listening.family == socket.AF_UNIX


def _path_of(listening: socket.socket) -> str | None:
    return listening.getsockname() if _is_unix(listening) else None


def _bind_tcp(family: int, address: str, port: int, dual: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows the option lets two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        listening.bind((address, port))
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ServingError(Code.ALREADY_EXISTS, f"Cannot listen on unix:{path}: a file that is no socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise ServingError(Code.ALREADY_EXISTS, f"Cannot listen on unix:{path}: another server listens there")


def _cannot_listen(address: str, error: OSError) -> ServingError:
    if error.errno == errno.EADDRINUSE:
        return ServingError(Code.ALREADY_EXISTS, f"Cannot listen on {address}: the address is already in use")
    code = {
        errno.EACCES: Code.PERMISSION_DENIED,
        errno.EPERM: Code.PERMISSION_DENIED,
        errno.ENOENT: Code.NOT_FOUND,
    }.get(error.errno or 0, Code.INVALID_ARGUMENT)
    return ServingError(code, f"Cannot listen on {address}: {error.strerror or error}")
