"""TLS contexts from an ``SSLConfig`` file: keys and certificates as PEM texts within it."""

import os
import ssl
import tempfile
from collections.abc import Sequence

from pyserving.core.errors import invalid_argument
from pyserving.protos.messages import SSLConfig
from pyserving.sources.text_proto import read_text_proto


def read_tls_context(path: str, protocols: Sequence[str]) -> ssl.SSLContext:
    """The server side of TLS as the file at ``path`` describes it.

    ``protocols`` are offered by ALPN, the best first (``h2``, ``http/1.1``). With ``client_verify`` a client
    must show a certificate that ``custom_ca`` has signed. Raises ServingError for a file that cannot be read, and
    INVALID_ARGUMENT, which names the field, for a key or certificate that cannot be used.
    """
    config = read_text_proto(path, SSLConfig)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), config.server_cert, f"{path}: server_cert")
    try:
        _load_key_and_certificate(context, config)
    except ssl.SSLError as error:
        raise invalid_argument(f"{path}: server_key {_fault_of_key(config.server_key, error)}") from None
    if config.custom_ca:
        _trust(context, config.custom_ca, f"{path}: custom_ca")
    if config.client_verify:
        if not config.custom_ca:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _trust(context: ssl.SSLContext, certificates: str, name: str) -> None:
    try:
        context.load_verify_locations(cadata=certificates)
    except (ssl.SSLError, ValueError, TypeError):
        raise invalid_argument(f"{name} holds no certificate in PEM format that can be read") from None


def _load_key_and_certificate(context: ssl.SSLContext, config: SSLConfig) -> None:
    # The ssl module reads them from files only: a file that none but this user can read, for this moment.
    descriptor, path = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{config.server_key}\n{config.server_cert}\n")
        # An empty password, else a key that has one would ask for it on the terminal.
        context.load_cert_chain(path, password="")
    finally:
        os.unlink(path)


def _fault_of_key(key: str, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "does not belong to server_cert"
    if "ENCRYPTED" in key:
        return "is encrypted: expected a key without a password"
    return f"is no private key in PEM format that can be used: {error}"
