"""Servers that are not there, come late, go, change under the client, or are told to be slow."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from model_files import SCALE, write_model
from running_server import RunningServer

from benchmarks.running import free_port
from pyserving import AsyncClient, Client, ServingError
from pyserving.client import Unreachable
from pyserving.client.address import parse_address
from pyserving.client.aio import _first_good
from pyserving.client.call import ModelSpec
from pyserving.client.peers import FAULTS_IN_A_ROW, Peer
from pyserving.client.tls import Tls
from pyserving.core.errors import Code
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos.messages import SSLConfig

ON = PythonOptions(PythonModels.ON)

FLOATS = """
    import numpy as np
    from pyserving import Model, Tensor

    class Floats(Model):
        def predict(self, x: Tensor[np.float32, None]) -> {"y": Tensor[np.float32, None]}:
            return {"y": x * 2}
    """
INTEGERS = """
    import numpy as np
    from pyserving import Model, Tensor

    class Integers(Model):
        def predict(self, number: Tensor[np.int64, None]) -> {"twice": Tensor[np.int64, None]}:
            return {"twice": number * 2}
    """
SLOW = """
    import threading
    import numpy as np
    from pyserving import Model, Tensor

    class Slow(Model):
        def predict(self, x: Tensor[np.float32, None]) -> {"y": Tensor[np.float32, None]}:
            threading.Event().wait(1)
            return {"y": x}
    """


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_model(tmp_path, "m", FLOATS)
    return tmp_path


def serve(folder: Path, **settings: object) -> RunningServer:
    from pyserving.sources.model_config import ModelConfig

    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    running = RunningServer([ModelConfig(name, str(folder / name)) for name in names], python_options=ON, **settings)
    for name in names:
        running.settled(name)
    return running


@pytest.fixture
def server(models: Path) -> Iterator[RunningServer]:
    running = serve(models)
    yield running
    running.stop()


@pytest.mark.parametrize("scheme", ["grpc", "http", ""])
def test_nothing_listens(scheme: str) -> None:
    address = f"{scheme}://127.0.0.1:{free_port()}" if scheme else f"127.0.0.1:{free_port()}"
    with (
        Client(address, retries=0) as client,
        pytest.raises(Unreachable, match=r"127\.0\.0\.1:\d+ does not answer: nothing listens there"),
    ):
        client.predict("m", [1.0])


def test_something_else_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=answer, daemon=True).start()
        port = listener.getsockname()[1]
        with (
            Client(f"127.0.0.1:{port}", retries=0) as client,
            pytest.raises(Unreachable, match="neither REST nor gRPC"),
        ):
            client.status("m")


def test_a_server_that_comes_late_is_waited_for(models: Path) -> None:
    ports = {"rest_port": free_port(), "grpc_port": free_port()}
    for scheme, port in (("http", ports["rest_port"]), ("grpc", ports["grpc_port"])):
        started: list[RunningServer] = []
        starting = threading.Timer(0.2, lambda: started.append(serve(models, wait_for_models=True, **ports)))  # noqa: B023
        starting.start()
        try:
            with Client(f"{scheme}://127.0.0.1:{port}", retries=50) as client:
                assert client.predict("m", [1.0])["y"].tolist() == [2.0]
                client.wait_until_ready("m")
        finally:
            starting.join()
            started[0].stop()


def test_waiting_ends_with_what_is_missing(server: RunningServer) -> None:
    for address in (server.server.ports.grpc_addresses[0], server.server.ports.rest_address):
        with Client(address) as client:
            client.wait_until_ready("m")
            client.wait_until_ready()
            with pytest.raises(ServingError, match=r"not ready after 1 s: .*other") as raised:
                client.wait_until_ready("m", "other", timeout=1)
            assert raised.value.code is Code.DEADLINE_EXCEEDED


def test_waiting_ends_with_what_was_missing_though_the_last_look_got_no_answer() -> None:
    body = b'{"error": "there is no other"}'

    def answer_once(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        held.append(connection)

    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_once, args=(listener,), daemon=True).start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            with pytest.raises(ServingError, match="not ready after 1 s: there is no other") as raised:
                client.wait_until_ready("other", timeout=1)
            assert raised.value.code is Code.DEADLINE_EXCEEDED
    held[0].close()


def test_a_server_that_went_away(models: Path) -> None:
    server = serve(models)
    ports = server.server.ports
    clients = [Client(address, retries=0) for address in (ports.grpc_addresses[0], ports.rest_address)]
    for client in clients:
        assert client.predict("m", [1.0])["y"].tolist() == [2.0]
    server.stop()
    for client in clients:
        with pytest.raises(Unreachable):
            client.predict("m", [1.0])
        client.close()


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_another_version_with_another_signature(models: Path, protocol: str) -> None:
    """The signature that the client knows is that of a version that has gone."""
    server = serve(models)
    ports = server.server.ports
    try:
        with Client(ports.grpc_addresses[0] if protocol == "grpc" else ports.rest_address) as client:
            assert client.predict("m", [1.5])["y"].tolist() == [3.0]
            write_model(models, "m", INTEGERS, version=2)
            server.settled("m", 2)
            assert client.predict("m", {"number": [4]})["twice"].tolist() == [8]
            assert client.predict("m", [5])["twice"].tolist() == [10]
            with pytest.raises(ServingError) as raised:
                client.predict("m", [1.5], version=1)
            assert raised.value.code is Code.NOT_FOUND
    finally:
        server.stop()


def test_another_signature_that_another_thread_heard_of_first(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(models)
    predict_again = AsyncClient.predict_again

    async def after_another_thread(self: AsyncClient, *arguments: object) -> object:
        await self.metadata("m")
        return await predict_again(self, *arguments)  # type: ignore[arg-type]

    try:
        with Client(server.server.ports.grpc_addresses[0]) as client:
            assert client.predict("m", [1.0])["y"].tolist() == [2.0]
            write_model(models, "m", INTEGERS, version=2)
            server.settled("m", 2)
            monkeypatch.setattr(AsyncClient, "predict_again", after_another_thread)
            assert client.predict("m", [5])["twice"].tolist() == [10]
    finally:
        server.stop()


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_deadline(models: Path, protocol: str) -> None:
    write_model(models, "slow", SLOW)
    server = serve(models)
    ports = server.server.ports
    try:
        with Client(ports.grpc_addresses[0] if protocol == "grpc" else ports.rest_address) as client:
            client.predict("m", [1.0])  # a busy machine may need as long to find out what answers there
            with pytest.raises(ServingError) as raised:
                client.predict("slow", [1.0], timeout=0.1)
            assert raised.value.code is Code.DEADLINE_EXCEEDED
            assert client.predict("m", [1.0])["y"].tolist() == [2.0]
    finally:
        server.stop()


def test_another_server_answers_when_one_is_gone(models: Path) -> None:
    first, second = serve(models), serve(models)
    addresses = [f"grpc://{first.server.ports.grpc_addresses[0]}", f"http://{second.server.ports.rest_address}"]
    try:
        with Client(*addresses, retries=1) as client:
            for _ in range(4):
                client.predict("m", [1.0])
            first.stop()
            for _ in range(20):
                assert client.predict("m", [1.0])["y"].tolist() == [2.0]
    finally:
        first.stop()
        second.stop()


def test_who_cannot_be_reached_is_left_alone(server: RunningServer) -> None:
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                accepted.append(1)
                connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        bad = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(bad, f"http://{server.server.ports.rest_address}") as client:
            for _ in range(50):
                client.predict("m", [1.0])
        listener.shutdown(socket.SHUT_RDWR)
    assert 1 <= len(accepted) <= 5


def test_a_second_server_is_asked_where_the_first_is_slow(server: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addresses = (f"http://127.0.0.1:{silent.getsockname()[1]}", f"http://{server.server.ports.rest_address}")

        async def ask() -> list[float]:
            async with AsyncClient(*addresses, hedge_after=0.02) as client:
                answers = await asyncio.gather(*(client.predict("m", [float(n)]) for n in range(10)))
                return [float(answer["y"][0]) for answer in answers]

        assert asyncio.run(ask()) == [2.0 * n for n in range(10)]


def test_a_server_that_never_answers_is_left_alone_as_well(server: RunningServer) -> None:
    """Though a second server answers each time: else every other request would wait for that."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept() -> None:
            held = []  # open, and never answered
            while True:
                try:
                    held.append(silent.accept())
                except OSError:
                    return
                accepted.append(1)

        threading.Thread(target=accept, daemon=True).start()
        bad = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(bad, f"http://{server.server.ports.rest_address}", hedge_after=0.02) as client:
            for _ in range(100):
                client.predict("m", [1.0])
        silent.shutdown(socket.SHUT_RDWR)
    assert FAULTS_IN_A_ROW <= len(accepted) <= 4 * FAULTS_IN_A_ROW


def test_requests_that_fail_together_eject_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was under way when a server was restarted must not keep clients from it for half a minute."""
    longer = 10.0  # than they take to fail, on a busy machine as well
    monkeypatch.setattr("pyserving.client.peers.FIRST_EJECTION", longer)

    async def ask() -> None:
        gone = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        peer = Peer(parse_address(f"http://127.0.0.1:{gone.sockets[0].getsockname()[1]}"), Tls(), ())
        loop = asyncio.get_running_loop()
        for times in (1, 2):
            outcomes = await asyncio.gather(
                *(peer.ask(lambda codec: codec.status(ModelSpec("m")), 60) for _ in range(20)), return_exceptions=True
            )
            assert {type(outcome) for outcome in outcomes} == {Unreachable}
            assert loop.time() < peer.ejected_until <= loop.time() + times * longer
            peer.ejected_until = loop.time()
        gone.close()
        await peer.close()

    asyncio.run(ask())


def test_who_answers_again_is_asked_again(server: RunningServer) -> None:
    """Where all are ejected one is asked all the same. If it works, its ejection is over."""

    async def ask() -> None:
        peer = Peer(parse_address(f"http://{server.server.ports.rest_address}"), Tls(), ())
        peer.was_late()
        for _ in range(1, FAULTS_IN_A_ROW):
            assert not peer.ejected_until
            peer.was_late()
        assert peer.ejected_until
        await peer.ask(lambda codec: codec.status(ModelSpec("m")), 60)
        assert not peer.ejected_until
        await peer.close()

    asyncio.run(ask())


def test_a_unix_socket(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    server = serve(models, grpc_socket_path=str(path))
    try:
        with Client(f"unix:{path}") as client:
            assert client.predict("m", [1.0])["y"].tolist() == [2.0]
        with Client(f"unix:{tmp_path}/none", retries=0) as client, pytest.raises(Unreachable, match="no such socket"):
            client.status("m")
    finally:
        server.stop()


def test_tls_and_mutual_tls(models: Path, tmp_path: Path) -> None:
    ca, stranger = trustme.CA(), trustme.CA()
    leaf, own = ca.issue_cert("localhost", "127.0.0.1"), ca.issue_cert("someone@example.org")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key", "stranger")}
    ca.cert_pem.write_to_path(files["ca"])
    stranger.cert_pem.write_to_path(files["stranger"])
    own.private_key_pem.write_to_path(files["key"])
    Path(files["cert"]).write_bytes(b"".join(blob.bytes() for blob in own.cert_chain_pems))
    config = SSLConfig(
        server_key=leaf.private_key_pem.bytes().decode(),
        server_cert="".join(blob.bytes().decode() for blob in leaf.cert_chain_pems),
        custom_ca=ca.cert_pem.bytes().decode(),
        client_verify=True,
    )
    (tmp_path / "ssl.config").write_text(str(config))
    written = str(tmp_path / "ssl.config")
    server = serve(models, grpc_ssl_config_file=written, rest_ssl_config_file=written)
    ports = server.server.ports
    try:
        mine = {name: files[name] for name in ("ca", "cert", "key")}
        addresses = (ports.grpc_addresses[0], ports.rest_address)
        for address in (*addresses, f"grpcs://{addresses[0]}", f"https://{addresses[1]}"):
            with Client(address, **mine) as client:
                assert client.predict("m", [1.0])["y"].tolist() == [2.0]
            with Client(address, **(mine | {"ca": files["stranger"]}), retries=0) as client, pytest.raises(Unreachable):
                client.predict("m", [1.0])
    finally:
        server.stop()
    with pytest.raises(ServingError, match="go together"):
        Client("localhost", cert=files["cert"])
    with pytest.raises(ServingError, match="TLS files"):
        Client("localhost", ca=str(tmp_path / "ssl.config"))


def test_the_token_is_sent_over_both_protocols() -> None:
    seen: list[str] = []

    class Interceptor(grpc.ServerInterceptor):
        def intercept_service(self, continuation: object, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            seen.extend(str(value) for key, value in details.invocation_metadata if key == "authorization")
            return grpc.unary_unary_rpc_method_handler(
                lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
            )

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads, interceptors=[Interceptor()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with Client(f"127.0.0.1:{port}", token="secret") as client:
            with pytest.raises(ServingError, match="who are you") as raised:
                client.status("m")
            assert raised.value.code is Code.UNAUTHENTICATED
        server.stop(None).wait()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.extend(
                    line.split(": ")[1] for line in connection.recv(65536).decode().splitlines() if "uthoriz" in line
                )
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", token="secret") as client:
            with pytest.raises(ServingError) as raised:
                client.status("m")
            assert raised.value.code is Code.UNAUTHENTICATED
        thread.join(10)
    assert seen == ["Bearer secret", "Bearer secret"]


def test_bad_options_are_refused_at_once() -> None:
    for addresses, options in (
        (["ftp://x"], {}), (["host:99999"], {}), (["unix:"], {}), (["grpc://host/path"], {}), ([""], {}),
        (["a..b"], {}), (["x" * 70 + ":80"], {}),
        (["localhost"], {"timeout": 0}), (["localhost"], {"retries": -1}), (["localhost"], {"token": "a\nb"}),
    ):  # fmt: skip
        with pytest.raises(ServingError) as raised:
            Client(*addresses, **options)
        assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_client_that_is_closed_under_a_call(scheme: str) -> None:
    ended: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")

        def ask() -> None:
            try:
                client.status("m", timeout=600)
            except ServingError as error:
                ended.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            client.close()
            thread.join(30)
    assert [error.code for error in ended] == [Code.CANCELLED]
    with pytest.raises(ServingError, match="closed"):
        client.status("m")


def test_a_call_does_not_wait_longer_because_others_wait() -> None:
    """Both have to find out what answers there, and nothing does."""

    async def ask(address: str) -> None:
        async with AsyncClient(address, retries=0) as client:
            slow = asyncio.create_task(client.status("m", timeout=600))
            await asyncio.sleep(0)
            quick = asyncio.create_task(client.status("m", timeout=0.05))
            done, _ = await asyncio.wait((slow, quick), return_when=asyncio.FIRST_COMPLETED)
            assert done == {quick}
            with pytest.raises(Unreachable, match=r"nothing came within 0\.0"):
                quick.result()
            slow.cancel()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(ask(f"127.0.0.1:{silent.getsockname()[1]}"))


def test_of_two_answers_at_the_same_time_the_good_one_counts() -> None:
    async def fail() -> int:
        raise ServingError(Code.INTERNAL, "no")

    async def answer() -> int:
        return 1

    async def ask() -> None:
        for _ in range(20):  # which of them a set yields first is chance
            assert await _first_good({asyncio.create_task(fail()), asyncio.create_task(answer())}) == 1

    asyncio.run(ask())


def test_pieces_of_a_stream_that_are_cut_anywhere() -> None:
    metadata = {
        "model_spec": {"name": "m", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": {
            "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {}}},
            "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}}},
        }}}},
    }  # fmt: skip
    lines = b"".join(b'{"outputs":[%d.5,2.0]}\n' % number for number in range(4))[:-1]

    def answer(connection: socket.socket) -> None:
        with connection:
            body = json.dumps(metadata).encode()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(lines), 7):
                connection.sendall(b"%x\r\n%b\r\n" % (len(lines[start : start + 7]), lines[start : start + 7]))
            connection.sendall(b"0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: answer(listener.accept()[0]), daemon=True).start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", retries=0) as client:
            pieces = [piece["y"].tolist() for piece in client.predict_streamed("m", 1.0)]
    assert pieces == [[number + 0.5, 2.0] for number in range(4)]


def test_scale_with_a_value_left_out_over_grpc(tmp_path: Path) -> None:
    write_model(tmp_path, "scale", SCALE)
    server = serve(tmp_path)
    try:
        with Client(f"grpc://{server.server.ports.grpc_addresses[0]}") as client:
            answer = client.predict("scale", {"x": np.array([1.0])})
            assert answer["output_0"].tolist() == [3.0]
    finally:
        server.stop()
