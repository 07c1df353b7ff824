"""Checksums as S3 tells them, of what it was given."""

import os
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from object_stores import Fault, HttpProxy

from pyserving.core.errors import Code, ServingError
from pyserving.sources.object_store import download
from pyserving.sources.object_store.digests import digests_of, is_of_parts
from pyserving.sources.object_store.download import Download
from pyserving.sources.object_store.store import ObjectStore

moto_server = pytest.importorskip("moto.server", reason="needs the group stores")
boto3 = pytest.importorskip("boto3")
s3fs = pytest.importorskip("s3fs", reason="needs the extra s3")

pytestmark = pytest.mark.stores

MIB = 1 << 20


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Any, HttpProxy]]:
    """A client, and the proxy through which the store is read."""
    from botocore.config import Config

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    port = server.get_host_and_port()[1]
    proxy = HttpProxy(port)
    proxy.harmed = "big"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setattr(download, "CHUNK", MIB)
        config = Config(request_checksum_calculation="when_required")
        session = boto3.Session("test", "test", region_name="us-east-1")
        client = session.client("s3", endpoint_url=f"http://127.0.0.1:{port}", config=config)
        client.create_bucket(Bucket="digests")
        yield client, proxy
    proxy.close()
    server.stop()


def put_in_parts(client: Any, key: str, content: bytes, size: int, **more: Any) -> None:
    where = {"Bucket": "digests", "Key": key}
    upload = client.create_multipart_upload(**where, **more)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(content), size), 1):
        sent = client.upload_part(**where, UploadId=upload, PartNumber=number, Body=content[start : start + size])
        parts.append({"ETag": sent["ETag"], "PartNumber": number})
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})


def fetch(folder: Path, model: str) -> bytes:
    store = ObjectStore(f"s3://digests/{model}")
    objects = store.objects(f"digests/{model}/1")
    Download(store, str(folder), threading.Event()).run(objects)
    return (folder / "big").read_bytes()


@pytest.mark.parametrize("size", [5 * MIB, 6 * MIB, 8 * MIB])
def test_the_etag_of_an_upload_in_parts_is_a_checksum(s3: tuple[Any, HttpProxy], tmp_path: Path, size: int) -> None:
    client, proxy = s3
    content = os.urandom(11 * MIB + 5)
    put_in_parts(client, f"parts{size}/1/big", content, size)
    proxy.requests.clear()
    assert fetch(tmp_path, f"parts{size}") == content
    reads = [path for method, path in proxy.requests if method == "GET" and "big" in path and "list-type" not in path]
    assert len(reads) == 12  # it was believed at once
    assert not [method for method, _ in proxy.requests if method == "HEAD"]


def test_a_wrong_bit_in_an_upload_in_parts_is_found(s3: tuple[Any, HttpProxy], tmp_path: Path) -> None:
    client, proxy = s3
    content = os.urandom(6 * MIB)
    put_in_parts(client, "bit/1/big", content, 5 * MIB)
    proxy.harm(Fault.WRONG, times=1)
    assert fetch(tmp_path, "bit") == content
    assert proxy.happened == 1


@pytest.mark.parametrize("checksum", ["CRC32", "CRC32C", "the ETag"])
def test_wrong_bits_that_stay_are_found(s3: tuple[Any, HttpProxy], tmp_path: Path, checksum: str) -> None:
    client, proxy = s3
    path = tmp_path / "sent"
    path.write_bytes(os.urandom(3 * MIB))
    digests = digests_of(str(path))
    more = {
        "CRC32": {"ChecksumCRC32": b64encode(digests.crc32).decode()},
        "CRC32C": {"ChecksumCRC32C": b64encode(digests.crc32c).decode()},
        "the ETag": {},
    }[checksum]
    model = f"stays{checksum.replace(' ', '')}"
    client.put_object(Bucket="digests", Key=f"{model}/1/big", Body=path.read_bytes(), **more)
    path.unlink()
    proxy.harm(Fault.WRONG)
    try:
        with pytest.raises(ServingError) as caught:
            fetch(tmp_path, model)
    finally:
        proxy.harm(None)
    assert caught.value.code is Code.DATA_LOSS
    assert not (tmp_path / "big").exists()


def test_an_etag_that_need_not_be_a_checksum_refuses_nothing(s3: tuple[Any, HttpProxy], tmp_path: Path) -> None:
    """Of what is encrypted with a key of KMS it is none. moto's is one all the same: so other bytes stand for that."""
    client, proxy = s3
    content = bytes(2 * MIB)
    client.put_object(Bucket="digests", Key="kms/1/big", Body=content, ServerSideEncryption="aws:kms")
    proxy.harm(Fault.WRONG)
    try:
        assert fetch(tmp_path, "kms") != content
    finally:
        proxy.harm(None)


def test_parts_of_unusual_sizes_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * MIB))
    assert not is_of_parts(str(path), digests_of(str(path)).md5, 2)
