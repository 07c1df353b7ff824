"""What clients and operators get wrong: each gives a clear error, and the next request works."""

import gzip
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from serving import SERVE, Serving
from waiting import wait_until

from pyserving.protos import messages

PREDICT = "/v1/models/half_plus_two_tf2:predict"
GOOD = {"instances": [1.0, 2.0, 5.0]}


def still_works(server: Serving) -> None:
    assert server.post(PREDICT, json.dumps(GOOD).encode()) == (200, {"predictions": [2.5, 3.0, 4.5]})


@pytest.fixture(scope="module")
def server(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("half_plus_two_tf2", "dims", "strings"):
        (folder / name).symlink_to(models_folder / name)
    running = Serving(str(folder)).wait_until_ready()
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"instances": [1.0', "Missing a comma"),
        (b"", "document is empty"),
        (b'{"instances": [[1.0, 2.0], [3.0]]}', "tensor size"),
        (b'{"inputs": [[1.0, 2.0], [3.0]]}', "unexpected size"),
        (b'{"instances": ["a"]}', "not of expected type: float"),
        (b'{"instances": [{"y": 1.0}]}', "does not have named input: y"),
        (b'{"signature_name": "nope", "instances": [1.0]}', "not found in signature def"),
        (b"[" * 1_000_000, ""),
        (b'{"instances": ' + b"[" * 1_000_000, ""),
        (b'{"instances": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", ""),
        (b'{"a":' * 200_000, ""),
        (b"\xff\xfe\x00", "Invalid value"),
    ],
    ids=["cut off", "empty", "ragged rows", "ragged column", "text for a number", "wrong name", "no such signature",
         "a million brackets", "in instances", "deep and whole", "deep objects", "not UTF-8"],
)  # fmt: skip
def test_malformed_json(server: Serving, body: bytes, expected: str) -> None:
    status, answer = server.post(PREDICT, body)
    assert status == 400
    assert expected in answer["error"]
    still_works(server)


def test_a_wrong_shape_gives_the_engines_error(server: Serving) -> None:
    status, answer = server.post("/v1/models/dims:predict", b'{"instances": [[1.0]]}')
    assert status == 400
    assert answer["error"]
    still_works(server)


def test_a_body_cut_off(server: Serving) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode()
    server.raw(head + b'{"instances": [1.0')
    still_works(server)


def test_a_gigabyte_announced_is_refused_before_it_comes(server: Serving) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n".encode()
    assert b" 413 " in server.raw(head).partition(b"\r\n")[0]
    still_works(server)


def test_a_gzip_bomb(server: Serving) -> None:
    bomb = gzip.compress(b" " * (600 << 20), 9)
    status, answer = server.post(PREDICT, bomb, {"Content-Encoding": "gzip"})
    assert status == 413
    assert answer["error"]
    still_works(server)


def test_a_grpc_frame_that_lies_about_its_length(server: Serving) -> None:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="half_plus_two_tf2")).SerializeToString()
    for lie in (len(request) + 10, 0xFFFFFFFF):
        frames = (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(4, 0, 0, b"")
            + frame(1, 4, 1, literal_headers())
            + frame(0, 1, 1, b"\0" + struct.pack(">I", lie) + request)
        )
        assert server.raw(frames, port=server.grpc), "it answers, and does not just hang up"
        still_works(server)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as caught:
            predict(b"\xff\xff\xff", timeout=10)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        with pytest.raises(grpc.RpcError) as caught:
            predict(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "Missing but required: {x}" in caught.value.details()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal_headers() -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/tensorflow.serving.PredictionService/Predict",
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in fields.items()
    )


def test_an_unknown_dtype_over_grpc(server: Serving) -> None:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="half_plus_two_tf2"))
    request.inputs["x"].dtype = 77
    request.inputs["x"].tensor_shape.dim.add(size=1)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(request.SerializeToString(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "dtype 77" in caught.value.details()
    still_works(server)


def run_to_its_end(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    done = subprocess.run(
        [*SERVE, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})}, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stderr.split())


def test_a_base_path_that_does_not_exist(tmp_path: Path) -> None:
    code, text = run_to_its_end(str(tmp_path / "none"))
    assert code == 1
    assert "no folder at" in text


def test_a_folder_without_versions(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    code, text = run_to_its_end(str(tmp_path))
    assert code == 1
    assert "version folders named by a number" in text


def test_the_path_of_a_version_in_place_of_its_model(models_folder: Path) -> None:
    code, text = run_to_its_end(str(models_folder / "half_plus_two_tf2" / "1"))
    assert code == 1
    assert "serve the folder above it" in text


def test_an_unversioned_model_in_a_bucket(tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text(
        'model_config_list { config { name: "m" base_path: "s3://b/m" model_platform: "tensorflow" '
        "pyserving { source: UNVERSIONED } } }"
    )
    code, text = run_to_its_end(f"--config={tmp_path / 'models.config'}")
    assert code == 1
    assert "whose source is UNVERSIONED, to have its base path on this machine" in text


def test_a_port_in_use(server: Serving, models_folder: Path) -> None:
    code, text = run_to_its_end(str(models_folder / "strings"), "--host=127.0.0.1", f"--rest-port={server.rest}")
    assert code == 1
    assert f"127.0.0.1:{server.rest}: the address is already in use" in text
    still_works(server)


def test_broken_models_beside_a_good_one(models_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(models_folder / "half_plus_two_tf2", tmp_path / "half_plus_two_tf2")
    (tmp_path / "corrupt" / "1").mkdir(parents=True)
    (tmp_path / "corrupt" / "1" / "saved_model.pb").write_bytes(b"this is no SavedModel")
    (tmp_path / "empty" / "1").mkdir(parents=True)
    shutil.copytree(models_folder / "large", tmp_path / "half_copied", ignore=shutil.ignore_patterns("*.data-*"))
    running = Serving(str(tmp_path), "--poll=0.2")
    try:
        wait_until(lambda: running.post(PREDICT, json.dumps(GOOD).encode())[0] == 200, running.log)
        still_works(running)
        status, answer = running.get("/readyz")
        assert status == 503
        assert set(answer["missing"]) == {"corrupt", "empty", "half_copied"}
        assert running.post("/v1/models/corrupt:predict", json.dumps(GOOD).encode())[0] == 404
    finally:
        assert running.stop() == 0
