"""TLS contexts: from an ``SSLConfig`` file, with keys and certificates as PEM texts within it, or from PEM files."""

import os
import ssl
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyserving.core.errors import invalid_argument
from pyserving.protos.messages import SSLConfig
from pyserving.server.reloading import Reloading
from pyserving.sources.os_errors import serving_error
from pyserving.sources.text_proto import read_text_proto


@dataclass(frozen=True, slots=True)
class PemFiles:
    """Paths of files in PEM format."""

    certificate: str
    """The server's, and behind it those of its issuers."""
    key: str
    client_ca: str = ""
    """Who signs the certificates that clients must show; empty: they need none."""


class ServerTls:
    """The TLS of a port. Its files may change while it serves: each handshake uses what they held last."""

    def __init__(self, paths: Sequence[str], read: Callable[[], ssl.SSLContext]) -> None:
        """Raises ServingError where the files cannot be read or used."""
        first: ssl.SSLContext | None = None

        def read_alike() -> ssl.SSLContext:
            context = read()
            # A handshake that has begun takes certificates from another context, but not whether to ask for one.
            if first is not None and context.verify_mode != first.verify_mode:
                raise invalid_argument("whether clients must show a certificate cannot change without a restart")
            return context

        self.files = Reloading(f"The TLS files {', '.join(paths)}", paths, read_alike)
        first = self.files.value
        first.sni_callback = self._choose
        self.context = first
        """To listen with."""

    def _choose(self, handshake: ssl.SSLSocket | ssl.SSLObject, *_: object) -> None:
        """Called at each handshake, whether the client names a server or not."""
        if self.files.value is not self.context:
            handshake.context = self.files.value


def tls_of_config(path: str, protocols: Sequence[str]) -> ServerTls:
    """As the SSLConfig file at ``path`` describes it; see ``read_tls_context``."""
    return ServerTls([path], lambda: read_tls_context(path, protocols))


def tls_of_files(files: PemFiles, protocols: Sequence[str]) -> ServerTls:
    def read() -> ssl.SSLContext:
        context = _new_context(protocols)
        certificate = _read_text(files.certificate)
        _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, files.certificate)
        _load_key_and_certificate(context, _read_text(files.key), certificate, files.key)
        if files.client_ca:
            _trust(context, _read_text(files.client_ca), files.client_ca)
            _require_certificates(context)
        return context

    return ServerTls([path for path in (files.certificate, files.key, files.client_ca) if path], read)


def read_tls_context(path: str, protocols: Sequence[str]) -> ssl.SSLContext:
    """The server side of TLS as the file at ``path`` describes it.

    ``protocols`` are offered by ALPN, the best first (``h2``, ``http/1.1``). With ``client_verify`` a client
    must show a certificate that ``custom_ca`` has signed, and speak TLS 1.3. Raises ServingError for a file that
    cannot be read, and INVALID_ARGUMENT, which names the field, for a key or certificate that cannot be used.
    """
    config = read_text_proto(path, SSLConfig)
    context = _new_context(protocols)
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), config.server_cert, f"{path}: server_cert")
    _load_key_and_certificate(context, config.server_key, config.server_cert, f"{path}: server_key", "server_cert")
    if config.custom_ca:
        _trust(context, config.custom_ca, f"{path}: custom_ca")
    if config.client_verify:
        if not config.custom_ca:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        _require_certificates(context)
    return context


def _new_context(protocols: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(protocols))
    return context


def _require_certificates(context: ssl.SSLContext) -> None:
    """Clients must show them at each handshake. One that resumes a session shows none, so a client whose issuer was
    taken out of the file would go on: TLS 1.3 alone, for it resumes by tickets and none are given. TLS 1.2 also
    resumes from the context's memory of sessions, which the ssl module cannot turn off."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise serving_error(path, error) from None


def _trust(context: ssl.SSLContext, certificates: str, name: str) -> None:
    try:
        context.load_verify_locations(cadata=certificates)
    except (ssl.SSLError, ValueError, TypeError):
        raise invalid_argument(f"{name} holds no certificate in PEM format that can be read") from None


def _load_key_and_certificate(
    context: ssl.SSLContext, key: str, certificate: str, name_of_key: str, name_of_certificate: str = "the certificate"
) -> None:
    # The ssl module reads them from files only: a file that none but this user can read, for this moment.
    descriptor, path = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{key}\n{certificate}\n")
        # An empty password, else a key that has one would ask for it on the terminal.
        context.load_cert_chain(path, password="")
    except ssl.SSLError as error:
        raise invalid_argument(f"{name_of_key} {_fault_of_key(key, error, name_of_certificate)}") from None
    finally:
        os.unlink(path)


def _fault_of_key(key: str, error: ssl.SSLError, certificate: str) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"does not belong to {certificate}"
    if "ENCRYPTED" in key:
        return "is encrypted: expected a key without a password"
    return f"is no private key in PEM format that can be used: {error}"
