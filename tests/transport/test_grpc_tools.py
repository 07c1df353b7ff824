"""Clients that are programs: grpc-js, h2load, curl. Each test is skipped where its program cannot be had."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_serving import WAIT, Server, prefixed

from pyserving.core.errors import Code

NODE = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="module")
def node() -> str:
    """node, with grpc-js beside the script."""
    path = program("node")
    if not (NODE / "node_modules" / "@grpc" / "grpc-js").is_dir():
        install = subprocess.run(
            [program("npm"), "install", "--no-package-lock", "--no-audit", "--no-fund"],
            cwd=NODE,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if install.returncode:
            pytest.skip(f"npm cannot install @grpc/grpc-js: {install.stderr.strip()[-200:]}")
    return path


def test_grpc_js(server: Server, node: str) -> None:
    done = subprocess.run(
        [node, "client.js", server.address], cwd=NODE, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "small": "héllo",
        "big": True,
        "many": [str(n) for n in range(100)],
        "failed": {"code": Code.NOT_FOUND, "details": 'no model\n"ünï" 100%'},
        "unknown": {"code": Code.UNIMPLEMENTED, "details": "Unknown method /test.Test/Nothing"},
        "late": Code.DEADLINE_EXCEEDED,
        "cancelled": Code.CANCELLED,
    }


def test_a_burst_of_h2load(server: Server, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(prefixed(b"x" * 100))
    done = subprocess.run(
        [
            *(program("h2load"), "-n2000", "-c10", "-m50", "-d", str(tmp_path / "body")),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            f"http://{server.address}/test.Test/Echo",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2000 done, 2000 succeeded, 0 failed" in done.stdout, done.stdout


def test_curl_with_prior_knowledge(server: Server) -> None:
    curl = program("curl")
    if "HTTP2" not in subprocess.run([curl, "--version"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this curl knows no HTTP/2")
    done = subprocess.run(
        [
            *(curl, "-sS", "-i", "--http2-prior-knowledge", "--data-binary", "@-"),
            *("-H", "content-type: application/grpc", f"http://{server.address}/test.Test/Echo"),
        ],
        input=prefixed(b"hello"),
        capture_output=True,
        timeout=WAIT,
        check=True,
    )
    assert done.stdout.startswith(b"HTTP/2 200")
    assert prefixed(b"hello") in done.stdout
    assert b"grpc-status: 0" in done.stdout


def test_curl_without_it_is_told_where_it_is(server: Server) -> None:
    done = subprocess.run(
        [program("curl"), "-sS", "-w", "%{http_code}", f"http://{server.address}/v1/models/m"],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )
    assert "This port speaks gRPC" in done.stdout
    assert done.stdout.endswith("400")
