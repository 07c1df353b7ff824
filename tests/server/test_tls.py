"""TLS on the gRPC and the REST port, as an SSLConfig file sets it up, with certificates of a CA of our own."""

import datetime
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
import trustme
from cryptography.hazmat.primitives import serialization
from running_server import RunningServer

from pyserving.core.errors import Code, ServingError
from pyserving.protos.messages import HealthCheckRequest, HealthCheckResponse, SSLConfig
from pyserving.server.tls import read_tls_context

Start = Callable[..., RunningServer]
WriteConfig = Callable[..., str]

WAIT = 30.0
YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(ca: trustme.CA) -> trustme.LeafCert:
    return ca.issue_cert("localhost", "127.0.0.1")


def chain_of(certificate: trustme.LeafCert) -> str:
    return "".join(blob.bytes().decode() for blob in certificate.cert_chain_pems)


def key_of(certificate: trustme.LeafCert) -> str:
    return certificate.private_key_pem.bytes().decode()


def authority_of(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


@pytest.fixture
def write_config(tmp_path: Path, certificate: trustme.LeafCert) -> WriteConfig:
    """``write_config(client_verify=True, ...)``: the path of an SSLConfig file, good but for what is given."""

    def write(**fields: Any) -> str:
        config = SSLConfig(**({"server_key": key_of(certificate), "server_cert": chain_of(certificate)} | fields))
        path = tmp_path / "ssl.config"
        path.write_text(str(config))
        return str(path)

    return write


def ask_grpc(address: str, credentials: "grpc.ChannelCredentials") -> HealthCheckResponse:
    with grpc.secure_channel(address, credentials) as channel:
        return channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )(HealthCheckRequest(), timeout=WAIT)


@pytest.fixture
def secure(start: Start, write_config: WriteConfig) -> Callable[..., RunningServer]:
    def start_secure(**fields: Any) -> RunningServer:
        path = write_config(**fields)
        return start([], grpc_ssl_config_file=path, rest_ssl_config_file=path)

    return start_secure


@pytest.fixture
def pems(tmp_path: Path) -> Callable[..., str]:
    """Writes texts to a file for ``requests``, which takes paths only."""

    def write(name: str, *texts: str) -> str:
        path = tmp_path / name
        path.write_text("\n".join(texts))
        return str(path)

    return write


def test_a_client_that_knows_the_ca(secure: Any, ca: trustme.CA, pems: Any) -> None:
    server = secure()
    credentials = grpc.ssl_channel_credentials(authority_of(ca).encode())
    assert ask_grpc(server.server.ports.grpc_addresses[0], credentials).status == HealthCheckResponse.SERVING
    answer = requests.get(
        f"https://{server.server.ports.rest_address}/readyz", verify=pems("ca.pem", authority_of(ca)), timeout=WAIT
    )
    assert answer.status_code == 200


def test_a_client_that_does_not_know_the_ca(secure: Any, pems: Any) -> None:
    server = secure()
    other = authority_of(trustme.CA())
    with pytest.raises(grpc.RpcError) as caught:
        ask_grpc(server.server.ports.grpc_addresses[0], grpc.ssl_channel_credentials(other.encode()))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(
            f"https://{server.server.ports.rest_address}/readyz", verify=pems("other.pem", other), timeout=WAIT
        )


def test_a_client_without_tls_and_then_one_with_it(secure: Any, ca: trustme.CA) -> None:
    server = secure()
    with (
        grpc.insecure_channel(server.server.ports.grpc_addresses[0]) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"http://{server.server.ports.rest_address}/readyz", timeout=WAIT)
    credentials = grpc.ssl_channel_credentials(authority_of(ca).encode())
    assert ask_grpc(server.server.ports.grpc_addresses[0], credentials).status == HealthCheckResponse.SERVING


class Client:
    """What a client shows: nothing, or a certificate."""

    def __init__(self, certificate: trustme.LeafCert | None) -> None:
        self.chain = None if certificate is None else chain_of(certificate)
        self.key = None if certificate is None else key_of(certificate)


@pytest.mark.parametrize("kind", ["good", "none", "other CA", "expired"])
def test_client_verify(secure: Any, ca: trustme.CA, pems: Any, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    issued = {
        "good": lambda: ca.issue_cert("client@example.org"),
        "none": lambda: None,
        "other CA": lambda: trustme.CA().issue_cert("client@example.org"),
        "expired": lambda: ca.issue_cert("client@example.org", not_after=YESTERDAY),
    }
    client = Client(issued[kind]())
    server = secure(custom_ca=authority_of(ca), client_verify=True)
    credentials = grpc.ssl_channel_credentials(
        authority_of(ca).encode(), client.key and client.key.encode(), client.chain and client.chain.encode()
    )
    verify = pems("ca.pem", authority_of(ca))
    shown = None if client.chain is None else pems("client.pem", client.chain, client.key)

    def ask_rest() -> int:
        url = f"https://{server.server.ports.rest_address}/readyz"
        return requests.get(url, verify=verify, cert=shown, timeout=WAIT).status_code

    if kind == "good":
        assert ask_grpc(server.server.ports.grpc_addresses[0], credentials).status == HealthCheckResponse.SERVING
        assert ask_rest() == 200
    else:
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(server.server.ports.grpc_addresses[0], credentials)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(requests.exceptions.ConnectionError):
            ask_rest()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(("port", "protocol"), [("grpc", "h2"), ("rest", "http/1.1")])
def test_alpn(secure: Any, ca: trustme.CA, port: str, protocol: str) -> None:
    server = secure()
    address = server.server.ports.grpc_addresses[0] if port == "grpc" else server.server.ports.rest_address
    host, _, number = address.rpartition(":")
    context = ssl.create_default_context(cadata=authority_of(ca))
    context.set_alpn_protocols(["spdy/3", "http/1.1", "h2"])
    with (
        socket.create_connection((host, int(number)), WAIT) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        assert wrapped.selected_alpn_protocol() == protocol


def test_the_unix_socket_stays_plain(start: Start, write_config: WriteConfig, tmp_path: Path) -> None:
    path = f"{tmp_path}/grpc.sock"
    start([], grpc_ssl_config_file=write_config(), grpc_socket_path=path)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=WAIT) == b"\x08\x01"


# What cannot be used


def encrypted(key: str) -> str:
    loaded = serialization.load_pem_private_key(key.encode(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()


def bad_fields(ca: trustme.CA, certificate: trustme.LeafCert) -> Iterator[tuple[dict[str, Any], str]]:
    other = ca.issue_cert("localhost")
    yield {"server_key": ""}, "server_key"
    yield {"server_cert": ""}, "server_cert"
    yield {"server_key": "no PEM"}, "server_key"
    yield {"server_cert": "no PEM"}, "server_cert"
    yield {"server_cert": "größer"}, "server_cert"
    yield {"server_key": key_of(certificate)[:200]}, "server_key"
    yield {"server_cert": chain_of(certificate)[:200]}, "server_cert"
    yield {"server_key": key_of(other)}, "does not belong"
    yield {"server_key": encrypted(key_of(certificate))}, "encrypted"
    yield {"custom_ca": "no PEM"}, "custom_ca"
    yield {"custom_ca": "größer"}, "custom_ca"
    yield {"custom_ca": authority_of(ca)[:200]}, "custom_ca"


def test_what_cannot_be_used_is_named(ca: trustme.CA, certificate: trustme.LeafCert, write_config: WriteConfig) -> None:
    for fields, text in bad_fields(ca, certificate):
        with pytest.raises(ServingError) as caught:
            read_tls_context(write_config(**fields), ["h2"])
        assert caught.value.code is Code.INVALID_ARGUMENT
        assert "ssl.config" in caught.value.message
        assert text in caught.value.message
        assert "-----" not in caught.value.message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ServingError) as caught:
        read_tls_context(str(tmp_path / "none"), ["h2"])
    assert caught.value.code is Code.NOT_FOUND
    (tmp_path / "bad").write_text("server_keys: 'x'")
    with pytest.raises(ServingError) as caught:
        read_tls_context(str(tmp_path / "bad"), ["h2"])
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert str(tmp_path / "bad") in caught.value.message


@pytest.mark.parametrize("setting", ["grpc_ssl_config_file", "rest_ssl_config_file"])
def test_a_server_does_not_start_on_it(start: Start, write_config: WriteConfig, setting: str) -> None:
    with pytest.raises(ServingError, match="server_key"):
        start([], **{setting: write_config(server_key="no PEM")})
