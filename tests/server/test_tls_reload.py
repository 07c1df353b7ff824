"""TLS from PEM files that change while the server runs: the next handshake uses what they hold then."""

import contextlib
import http.client
import json
import logging
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme
from click.testing import CliRunner
from running_server import RunningServer
from waiting import wait_until

from pyserving.cli.main import main
from pyserving.core.errors import ServingError
from pyserving.server import reloading
from pyserving.server.tls import PemFiles, tls_of_files

Start = Callable[..., RunningServer]
WAIT = 30.0


class Files:
    """A server's certificate and key, and the CA of its clients, as files."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key, self.client_ca = (folder / name for name in ("cert.pem", "key.pem", "clients.pem"))
        self.ca = trustme.CA()
        self.client_authority = trustme.CA()
        self.write()
        self.trust(self.client_authority)

    def write(self) -> int:
        """A new certificate; its serial number."""
        made = self.ca.issue_cert("localhost", "127.0.0.1")
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        for path, data in (self.certificate, chain), (self.key, made.private_key_pem.bytes()):
            whole = path.with_suffix(".new")  # as those do who know how: the server never sees half a file
            whole.write_bytes(data)
            os.replace(whole, path)
        return int(ssl._ssl._test_decode_cert(str(self.certificate))["serialNumber"], 16)  # type: ignore[attr-defined]

    def trust(self, authority: trustme.CA) -> None:
        self.client_ca.write_bytes(authority.cert_pem.bytes())

    def paths(self, mutual: bool = False) -> PemFiles:
        return PemFiles(str(self.certificate), str(self.key), str(self.client_ca) if mutual else "")

    def client(self, authority: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca.cert_pem.bytes().decode())
        if authority is not None:
            authority.issue_cert("client@example.org").configure_cert(context)
        return context


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(reloading, "LOOK_SECONDS", 0.02)
    return Files(tmp_path)


def serial(address: str, context: ssl.SSLContext, name: str | None = "localhost") -> int:
    """Of the certificate that is shown. ``name`` None: the client names no server."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT) as plain:
        if name is None:
            context.check_hostname = False
        with context.wrap_socket(plain, server_hostname=name) as secure:
            shown = secure.getpeercert()
            assert shown is not None
            return int(str(shown["serialNumber"]), 16)


def status(address: str, context: ssl.SSLContext) -> int:
    """Of a request by REST; 0 where the handshake is refused."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=WAIT)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except (ssl.SSLError, ConnectionError):
        return 0
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["localhost", None])
def test_a_new_certificate_is_shown_and_old_connections_go_on(start: Start, files: Files, name: str | None) -> None:
    server = start([], tls_files=files.paths())
    rest, rpc = server.server.ports.rest_address, server.server.ports.grpc_addresses[0]
    assert rest is not None
    host, _, port = rest.rpartition(":")
    kept = http.client.HTTPSConnection(host, int(port), context=files.client(), timeout=WAIT)
    kept.request("GET", "/healthz")
    assert kept.getresponse().read()
    new = files.write()
    wait_until(lambda: serial(rest, files.client(), name) == new)
    wait_until(lambda: serial(rpc, files.client(), name) == new)
    kept.request("GET", "/healthz")
    assert kept.getresponse().status == 200
    credentials = grpc.ssl_channel_credentials(files.ca.cert_pem.bytes())
    with grpc.secure_channel(rpc, credentials) as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=WAIT)


def test_a_broken_certificate_is_logged_and_the_old_one_stays(
    start: Start, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    first = files.write()
    server = start([], tls_files=files.paths())
    address = server.server.ports.rest_address
    assert address is not None
    with caplog.at_level(logging.ERROR):
        files.certificate.write_text("no certificate")
        wait_until(lambda: "cannot be used; what was read before stays" in caplog.text)
        assert serial(address, files.client()) == first
        caplog.clear()
        files.key.unlink()
        wait_until(lambda: "what was read before stays" in caplog.text)
    assert serial(address, files.client()) == first
    new = files.write()
    wait_until(lambda: serial(address, files.client()) == new)


def test_clients_of_another_ca_are_refused_as_soon_as_it_is_out_of_the_file(start: Start, files: Files) -> None:
    server = start([], tls_files=files.paths(mutual=True))
    address = server.server.ports.rest_address
    assert address is not None
    other = trustme.CA()
    old_client, new_client = files.client(files.client_authority), files.client(other)
    assert (status(address, old_client), status(address, new_client), status(address, files.client())) == (200, 0, 0)
    files.trust(other)
    wait_until(lambda: status(address, new_client) == 200)
    # The same context: it would resume its session if it had been given a ticket.
    assert status(address, old_client) == 0


def test_a_session_of_a_client_whose_ca_was_taken_out_is_not_resumed(
    start: Start, files: Files, tmp_path: Path
) -> None:
    config = tmp_path / "ssl.config"

    def trust(authority: trustme.CA) -> None:
        texts = {
            "server_key": files.key.read_text(),
            "server_cert": files.certificate.read_text(),
            "custom_ca": authority.cert_pem.bytes().decode(),
        }
        whole = tmp_path / "ssl.new"
        whole.write_text(
            "".join(f"{name}: {json.dumps(text)}\n" for name, text in texts.items()) + "client_verify: true"
        )
        os.replace(whole, config)

    trust(files.client_authority)
    server = start([], rest_ssl_config_file=str(config))
    host, _, port = str(server.server.ports.rest_address).rpartition(":")
    client = files.client(files.client_authority)
    session: ssl.SSLSession | None = None

    def asked() -> tuple[bytes, bool]:
        """The begin of an answer, and whether the session that was there before was resumed."""
        nonlocal session
        with (
            socket.create_connection((host, int(port)), timeout=WAIT) as plain,
            client.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
        ):
            secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: secure.recv(1000), b""))
            session = secure.session
            secure.unwrap()  # A server forgets sessions that end without a farewell.
            return answer[:12], bool(secure.session_reused)

    assert [asked(), asked()] == [(b"HTTP/1.1 200", False)] * 2
    other = trustme.CA()
    trust(other)
    wait_until(lambda: status(f"{host}:{port}", files.client(other)) == 200)
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert asked() == (b"", False)
    client, session = files.client(other), None
    assert asked() == (b"HTTP/1.1 200", False)
    # It would resume sessions without a ticket.
    client.maximum_version, session = ssl.TLSVersion.TLSv1_2, None
    with pytest.raises(ssl.SSLError):
        asked()


def test_mutual_tls_over_grpc(start: Start, files: Files) -> None:
    server = start([], tls_files=files.paths(mutual=True))
    made = files.client_authority.issue_cert("client@example.org")
    shown = (made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes())
    for pair, code in (shown, None), ((None, None), grpc.StatusCode.UNAVAILABLE):
        credentials = grpc.ssl_channel_credentials(files.ca.cert_pem.bytes(), *pair)
        with grpc.secure_channel(server.server.ports.grpc_addresses[0], credentials) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            if code is None:
                assert check(b"", timeout=WAIT)
            else:
                with pytest.raises(grpc.RpcError) as caught:
                    check(b"", timeout=WAIT)
                assert caught.value.code() is code


@pytest.mark.parametrize("broken", ["certificate", "key", "client_ca"])
def test_files_that_cannot_be_used_at_the_start_are_an_error(files: Files, broken: str) -> None:
    path: Path = getattr(files, broken)
    path.write_text("nonsense")
    with pytest.raises(ServingError, match=path.name):
        tls_of_files(files.paths(mutual=True), ["h2"])
    path.unlink()
    with pytest.raises(ServingError, match=path.name):
        tls_of_files(files.paths(mutual=True), ["h2"])


@pytest.mark.parametrize("given", [["--tls-cert=a"], ["--tls-key=a"], ["--tls-client-ca=a"]])
def test_options_that_belong_together(tmp_path: Path, given: list[str]) -> None:
    (tmp_path / "1").mkdir()
    result = CliRunner().invoke(main, ["serve", str(tmp_path), *given])
    assert result.exit_code == 2, result.output
