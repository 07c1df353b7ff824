"""A server that a page starts, on free ports."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from benchmarks.running import free_port

MODULES = {"pyserving": "pyserving.cli.main", "tensorflow_model_server": "pyserving.cli.model_server"}


class PageServer:
    """Runs ``command`` (as a page has it, in words) in ``folder`` until stop(); it answers when this returns."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        program = command[0].rpartition("/")[2]
        self.rest, self.grpc = free_port(), free_port()
        if program == "pyserving":
            ports = [f"--rest-port={self.rest}", f"--port={self.grpc}", "--host=127.0.0.1"]
            self._ready = f"http{'s' * ('--tls-cert' in command)}://127.0.0.1:{self.rest}/readyz"
        else:
            ports = [f"--rest_api_port={self.rest}", f"--port={self.grpc}"]
            self._ready = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - the process outlives this function
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULES[program], *command[1:], *ports],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=self._log,
            stderr=self._log,
        )
        end = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self._process.kill()
                self._process.wait()
                self._log.seek(0)
                raise AssertionError(f"{command} is not ready within a minute, or ended:\n{self._log.read().decode()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        if not self._ready:  # the ports open when all models are there
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.rest)) == 0
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(self._ready, timeout=30, context=context):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            assert self._process.wait(60) == 0
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()
