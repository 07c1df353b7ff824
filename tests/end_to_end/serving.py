"""A server process for tests, and how to ask it."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from benchmarks.running import free_port

SERVE = [sys.executable, "-m", "pyserving.cli.main", "serve"]


class Serving:
    """``pyserving serve`` with the given arguments, on 127.0.0.1."""

    def __init__(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        command: Sequence[str] = SERVE,
        ports: tuple[int, int] | None = None,
        options: Sequence[str] = ("--rest-port={rest}", "--port={grpc}", "--host=127.0.0.1"),
    ) -> None:
        """``ports``: of REST and of gRPC, by default free ones; ``options`` tell the command of them."""
        self.rest, self.grpc = ports or (free_port(), free_port())
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - the process outlives this function
        self.process = subprocess.Popen(
            [*command, *arguments, *(one.format(rest=self.rest, grpc=self.grpc) for one in options)],
            stderr=self._log,
            env={**os.environ, **(env or {})},
        )

    def log(self) -> str:
        descriptor = self._log.fileno()  # the server writes where its position is, and must not find it moved
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()

    def wait_until_ready(self) -> "Serving":
        end = time.monotonic() + 60
        while self.get("/readyz")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > end:
                self._kill()  # no one else will: the caller never gets this server
                raise AssertionError(f"not ready within a minute, or ended:\n{self.log()}")
            time.sleep(0.05)
        return self

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON; status 0 where the server does not answer."""
        return self._ask(urllib.request.Request(f"http://127.0.0.1:{self.rest}{path}"))

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        return self._ask(urllib.request.Request(f"http://127.0.0.1:{self.rest}{path}", body, headers or {}))

    def post_json(self, path: str, body: object) -> tuple[int, Any]:
        return self.post(path, json.dumps(body).encode())

    def _ask(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except (urllib.error.URLError, ConnectionError):
            return 0, None

    def raw(self, data: bytes, *, port: int | None = None) -> bytes:
        """Sends bytes as they are, and returns what comes until the server closes."""
        with socket.create_connection(("127.0.0.1", port or self.rest), timeout=30) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before all was sent
            answer = b""
            try:
                while piece := connection.recv(1 << 16):
                    answer += piece
            except ConnectionError:
                pass
            return answer

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self._kill()

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()
