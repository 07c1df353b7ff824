"""Several workers serve from one bucket: one process looks and fetches, and all of them swap."""

import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from object_stores import HttpProxy
from serving import Serving
from waiting import wait_until

moto_server = pytest.importorskip("moto.server", reason="needs the group stores")
boto3 = pytest.importorskip("boto3")
pytest.importorskip("s3fs", reason="needs the extra s3")

pytestmark = pytest.mark.stores


@pytest.fixture
def proxy() -> Iterator[HttpProxy]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    proxy = HttpProxy(server.get_host_and_port()[1])
    yield proxy
    proxy.close()
    server.stop()


def put(client: Any, version: int, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            client.put_object(
                Bucket="workers", Key=f"half/{version}/{path.relative_to(folder)}", Body=path.read_bytes()
            )
    client.put_object(Bucket="workers", Key=f"half/{version}/_SUCCESS", Body=b"")


def test_two_workers_serve_from_one_bucket(proxy: HttpProxy, models_folder: Path, tmp_path: Path) -> None:
    folder = next((models_folder / "half_plus_two_tf2").iterdir())
    session = boto3.Session("test", "test", region_name="us-east-1")
    client = session.client("s3", endpoint_url=f"http://127.0.0.1:{proxy.target}")
    client.create_bucket(Bucket="workers")
    put(client, 1, folder)
    env = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = Serving(
        "s3://workers/half",
        "--workers=2",
        "--bucket-poll=0.1",
        f"--model-cache={tmp_path}",
        "--accelerate=off",
        env=env,
    ).wait_until_ready()
    try:
        lost: list[object] = []
        done = threading.Event()
        clients = [threading.Thread(target=ask, args=(server.rest, done, lost)) for _ in range(4)]
        for one in clients:
            one.start()
        put(client, 2, folder)
        wait_until(lambda: available(server) == ["2"])
        done.set()
        for one in clients:
            one.join(30)
        assert lost == []
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()
    for version in (1, 2):
        model = [
            path for method, path in proxy.requests if method == "GET" and f"half/{version}/saved_model.pb" in path
        ]
        assert len(model) == 1, model
    assert server.log().count("takes part") == 2


def available(server: Serving) -> list[str]:
    status, answer = server.get("/v1/models/half")
    versions = answer["model_version_status"] if status == 200 else []
    return [version["version"] for version in versions if version["state"] == "AVAILABLE"]


def ask(port: int, done: threading.Event, lost: list[object]) -> None:
    """Over new connections, so that both workers are asked."""
    while not done.is_set():
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/v1/models/half:predict", b'{"instances": [1.0, 2.0]}')
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200 or b"2.5" not in text:
            lost.append((answer.status, text))
        connection.close()
