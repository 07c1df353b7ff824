"""Certificates of a client."""

import ssl
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from pyserving.core.errors import invalid_argument

StrPath = str | PathLike[str]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. Without ``ca`` the system's authorities are trusted."""

    ca: StrPath | None = None
    cert: StrPath | None = None
    """The client's own chain, where the server asks for one (mutual TLS); with ``key``."""
    key: StrPath | None = None

    def context(self) -> ssl.SSLContext:
        """Raises INVALID_ARGUMENT for files that cannot be used."""
        self._check()
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:  # an SSLError is one
            raise invalid_argument(f"the TLS files cannot be used: {error}") from None
        return context

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Authorities, key and chain, as gRPC takes them. Raises INVALID_ARGUMENT."""
        self.context()  # gRPC's own errors for bad files are hard to read
        return _read(self.ca), _read(self.key), _read(self.cert)

    def _check(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise invalid_argument("a client's certificate and its key go together: give both, or neither")


def _read(path: StrPath | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
