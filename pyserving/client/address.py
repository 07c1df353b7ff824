"""Where a server is, as people write it."""

from dataclasses import dataclass, replace
from enum import Enum
from urllib.parse import urlsplit

from pyserving.core.errors import invalid_argument

GRPC_PORT = 8500
REST_PORT = 8501


class Protocol(Enum):
    """How a server is asked."""

    REST = "REST"
    GRPC = "gRPC"


@dataclass(frozen=True, slots=True)
class Address:
    """One socket of a server."""

    host: str = ""
    port: int = 0
    """0 where none was given: the protocol's own."""
    protocol: Protocol | None = None
    """None: to be found out."""
    tls: bool = False
    prefix: str = ""
    """What stands before ``/v1/models`` in the paths of REST, such as ``/models``."""
    unix: str = ""
    """The path of a Unix socket, in place of host and port."""

    def at(self, protocol: Protocol) -> "Address":
        """The same place, asked by ``protocol``."""
        port = self.port or (GRPC_PORT if protocol is Protocol.GRPC else REST_PORT)
        return replace(self, protocol=protocol, port=0 if self.unix else port)

    @property
    def authority(self) -> str:
        """``host:port`` as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        if self.protocol is None:
            return self.authority
        scheme = "grpc" if self.protocol is Protocol.GRPC else "http"
        return f"{scheme}{'s' if self.tls else ''}://{self.authority}{self.prefix}"


_SCHEMES = {
    "http": (Protocol.REST, False),
    "https": (Protocol.REST, True),
    "grpc": (Protocol.GRPC, False),
    "grpcs": (Protocol.GRPC, True),
}


def parse_address(text: str, *, tls: bool = False) -> Address:
    """Reads ``localhost``, ``host:port``, ``http://host``, ``grpcs://host:port`` or ``unix:/path``.

    Without a port it is 8501 for ``http://`` and 8500 for ``grpc://``, 443 for ``https://`` and ``grpcs://``; without
    a scheme, port and protocol are to be found out. ``tls``: also where there is no scheme. Raises INVALID_ARGUMENT.
    """
    text = text.strip()
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path[2:] if path.startswith("///") else path
        if not path:
            raise invalid_argument(f"expected a path after unix:, got {text!r}")
        return Address(unix=path)
    scheme, found, _ = text.partition("://")
    if found and scheme.lower() not in _SCHEMES:
        raise invalid_argument(f"expected {', '.join(f'{known}://' for known in _SCHEMES)} or unix:, got {text!r}")
    try:
        # An IPv6 address without brackets has no port.
        bare = not found and text.count(":") > 1 and not text.startswith("[")
        parts = urlsplit(text if found else f"//[{text}]" if bare else f"//{text}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # as who looks it up will
    except ValueError as error:
        raise invalid_argument(f"expected an address such as localhost or host:8501, got {text!r}: {error}") from None
    if not host or port == 0 or parts.query or parts.fragment or parts.username:
        raise invalid_argument(f"expected an address such as localhost or host:8501, got {text!r}")
    prefix = parts.path.rstrip("/")
    if not found:
        if prefix:
            raise invalid_argument(f"a path needs a scheme before it: http://{text}")
        return Address(host, port or 0, tls=tls)
    protocol, secure = _SCHEMES[scheme.lower()]
    if protocol is Protocol.GRPC and prefix:
        raise invalid_argument(f"a gRPC address has no path, got {text!r}")
    return Address(host, port or (443 if secure else 0), protocol, secure, prefix).at(protocol)
