"""The same connections inside TLS, where one end cannot close half."""

import asyncio
import shutil
import socket
import ssl
import subprocess

import pytest
from http1_running import Client, echo

from pyserving.transport.balance import Balance
from pyserving.transport.http1 import Http1Server
from pyserving.transport.limits import HttpLimits
from pyserving.transport.listener import Listener, open_tcp, port_of
from pyserving.transport.loop import new_event_loop

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    paths = str(folder / "cert.pem"), str(folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *names, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


@pytest.mark.parametrize("loop_factory", [new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("shared", [False, True])
def test_serves_inside_tls(certificate, loop_factory, shared):
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=certificate[0])

    def talk(port: int) -> None:
        plain = socket.create_connection(("127.0.0.1", port), 10)
        client = Client(trusting.wrap_socket(plain, server_hostname="localhost"))
        body = b"x" * 300_000
        head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
        for _ in range(2):
            assert client.ask(head % len(body) + body).asked["body"] == body.decode()
        assert client.ask(head % 1_000_000 + b"some of it").status == 413
        assert client.rest() == b""
        client.close()

    async def main() -> None:
        sockets = open_tcp("127.0.0.1", 0)
        limits = HttpLimits(max_body=500_000, linger=0.1)
        share = Balance(1, 1).seat(0).share(0) if shared else None
        listener = Listener(sockets, Http1Server(echo, limits).new_connection, tls=served, share=share)
        await listener.start()
        await asyncio.to_thread(talk, port_of(sockets[0]))
        assert await listener.stop(10) == 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
