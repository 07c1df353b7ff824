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
    try:
        _load_key_and_certificate(context, config)
    except (ssl.SSLError, ValueError) as error:
        raise invalid_argument(f"{path}: server_key and server_cert cannot be used: {error}") from None
    if config.custom_ca:
        try:
            context.load_verify_locations(cadata=config.custom_ca)
        except (ssl.SSLError, ValueError) as error:
            raise invalid_argument(f"{path}: custom_ca cannot be used: {error}") from None
    if config.client_verify:
        if not config.custom_ca:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_key_and_certificate(context: ssl.SSLContext, config: SSLConfig) -> None:
    # The ssl module reads them from files only: a file that none but this user can read, for this moment.
    descriptor, path = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{config.server_key}\n{config.server_cert}\n")
        # An empty password, else a key that has one would ask for it on the terminal.
        context.load_cert_chain(path, password="")
    finally:
        os.unlink(path)
