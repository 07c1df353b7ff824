"""Where a server listens: its sockets, bound as the settings say, and their TLS."""

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from pyserving.server.settings import Settings
from pyserving.server.tls import ServerTls, tls_of_config, tls_of_files
from pyserving.transport.listener import address_of, bind_tcp, bind_unix, listen, port_of


@dataclass(frozen=True, slots=True)
class Tls:
    """The TLS of each TCP port; None: it has none."""

    grpc: ServerTls | None
    rest: ServerTls | None


def read_tls(settings: Settings) -> Tls:
    """Raises ServingError where a file cannot be read or used."""

    def tls(config_file: str, protocol: str) -> ServerTls | None:
        if config_file:
            return tls_of_config(config_file, [protocol])
        return tls_of_files(settings.tls_files, [protocol]) if settings.tls_files else None

    return Tls(tls(settings.grpc_ssl_config_file, "h2"), tls(settings.rest_ssl_config_file, "http/1.1"))


class Ports:
    """The sockets of a server. A client finds them closed until ``listen``."""

    def __init__(self, settings: Settings) -> None:
        """Binds them. Raises ServingError where an address is in use or cannot be had."""
        self._host = settings.host
        self.grpc: Sequence[socket.socket] = ()
        self.grpc_unix: Sequence[socket.socket] = ()
        self.rest: Sequence[socket.socket] = ()
        try:
            if settings.grpc_port is not None:
                self.grpc = bind_tcp(settings.host, settings.grpc_port)
            if settings.grpc_socket_path:
                self.grpc_unix = [bind_unix(settings.grpc_socket_path)]
            if settings.rest_port is not None:
                self.rest = bind_tcp(settings.host, settings.rest_port)
        except BaseException:
            self.close()
            raise
        self.rest_address = self._client_address(self.rest) if self.rest else None
        """Where a client on this machine finds REST: ``localhost:8501``."""
        self.grpc_addresses = [self._client_address(self.grpc)] if self.grpc else []
        """The same for gRPC: ``localhost:8500``, ``unix:/run/serving.sock``."""
        self.grpc_addresses += map(address_of, self.grpc_unix)
        self.addresses = [address_of(listening) for listening in self._sockets()]
        """All that is listened on: ``[::]:8500``, ``unix:/run/serving.sock``."""

    def listen(self) -> None:
        """From now on clients can connect. Raises ServingError where another server was quicker."""
        for listening in self._sockets():
            listen(listening)

    def close(self) -> None:
        """Closes the sockets here, and takes the file of a UNIX socket away."""
        for listening in self.grpc_unix:
            with contextlib.suppress(OSError):
                os.unlink(listening.getsockname())
        for listening in self._sockets():
            listening.close()

    def _sockets(self) -> list[socket.socket]:
        return [*self.grpc, *self.grpc_unix, *self.rest]

    def _client_address(self, sockets: Sequence[socket.socket]) -> str:
        host = self._host
        if host in ("", "0.0.0.0", "::"):
            host = "localhost"
        return f"{f'[{host}]' if ':' in host else host}:{port_of(sockets[0])}"
