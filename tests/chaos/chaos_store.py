"""An S3 on this machine, with versions of half_plus_two, that breaks when it is told to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from object_stores import FaultyProxy

BIG = 4 << 20
"""Bytes of what ``put`` adds to a big version."""


class Bucket:
    """``s3://models``, reached by servers through ``proxy``."""

    def __init__(self, port: int, version: Path, proxy: FaultyProxy) -> None:
        import boto3

        self.proxy = proxy
        self.env = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }
        self.contents: dict[int, dict[str, bytes]] = {}
        """By version, what was put."""
        self._version = version
        session = boto3.Session("test", "test", region_name="us-east-1")
        self._s3: Any = session.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
        self._s3.create_bucket(Bucket="models")
        for left in self._s3.list_objects_v2(Bucket="models").get("Contents", ()):  # all servers of moto are one
            self._s3.delete_object(Bucket="models", Key=left["Key"])

    def put(self, version: int, *, big: bool = False) -> None:
        """Of the model half."""
        contents = {str(path.relative_to(self._version)): path.read_bytes() for path in _files(self._version)}
        if big:
            contents["assets/table.bin"] = os.urandom(BIG)
        self.contents[version] = contents
        for path, content in {**contents, "_SUCCESS": b""}.items():
            self._s3.put_object(Bucket="models", Key=f"half/{version}/{path}", Body=content)

    def configure(self, folder: Path) -> str:
        config = folder / "models.config"
        config.write_text(
            'model_config_list { config { name: "half" base_path: "s3://models/half" model_platform: "tensorflow" } }'
        )
        return f"--config={config}"

    def check_cache(self, cache: Path) -> set[int]:
        """The versions that are published in a model cache, each of which has what was put."""
        found = set()
        for folder in cache.glob("*/*/*"):
            if folder.is_dir() and folder.name != "part":
                contents = {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}
                contents.pop("_SUCCESS", None)
                assert contents == self.contents[int(folder.name)]
                found.add(int(folder.name))
        return found


@contextmanager
def bucket(version: Path) -> Iterator[Bucket]:
    moto = pytest.importorskip("moto.server", reason="needs the group stores (make .venv/.stores)")
    pytest.importorskip("s3fs", reason="needs the extra s3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    port = server.get_host_and_port()[1]
    proxy = FaultyProxy(port)
    try:
        yield Bucket(port, version, proxy)
    finally:
        proxy.close()
        server.stop()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
