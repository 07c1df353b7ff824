"""Servers that things are done to, and what is done to them."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from chaos_clients import Clients
from serving import SERVE, Serving
from waiting import wait_until

LOADING = "Loading servable {name: half version: 2}"
SLOW = """
import time
import numpy as np
from pyserving import Model, Tensor

class Half(Model):
    def load(self, folder):
        time.sleep(1)

    def predict(self, x: Tensor[np.float32, None]) -> {"y": Tensor[np.float32, None]}:
        return {"y": x / 2 + 2}
"""


def descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        # A child belongs to the thread that started it.
        for task in os.listdir(f"/proc/{pid}/task"):
            children += [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [one for child in dict.fromkeys(children) for one in (child, *descendants(child))]


def running(server: Serving, module: str) -> list[int]:
    """The server's processes that run this module."""

    def runs(pid: int) -> bool:
        try:
            return module in Path(f"/proc/{pid}/cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False

    return [pid for pid in descendants(server.process.pid) if runs(pid)]


def kill_9(server: Serving) -> None:
    """The whole server. Its other processes notice, and end."""
    others = descendants(server.process.pid)
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in others), "its other processes have ended")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Folder:
    """Of models named half and other, whose versions come and go."""

    def __init__(self, folder: Path, models_folder: Path) -> None:
        self.folder = folder
        self._version = models_folder / "half_plus_two_tf2"
        self._number = 0
        self.config = folder / "models.config"
        self.put("half", 1)
        self.put("other", 1)

    def put(self, model: str, version: int) -> Path:
        """Atomically."""
        self._number += 1
        fresh = self.folder / f"fresh-{self._number}"
        shutil.copytree(next(self._version.iterdir()), fresh)
        (self.folder / model).mkdir(exist_ok=True)
        return fresh.rename(self.folder / model / str(version))

    def put_slow(self, model: str, version: int) -> Path:
        """One that takes a second to load."""
        path = self.folder / model / str(version)
        fresh = self.folder / "fresh-slow"
        fresh.mkdir()
        (fresh / "model.py").write_text(SLOW)
        return fresh.rename(path)

    def configure(self, half: str = "", other: str = "") -> str:
        entries = [
            f'config {{ name: "{name}" base_path: "{self.folder / name}" model_platform: "tensorflow" {more} }}'
            for name, more in (("half", half), ("other", other))
        ]
        self.config.write_text(f"model_config_list {{ {' '.join(entries)} }}")
        return f"--config={self.config}"

    def is_at(self, server: Serving, version: int, model: str = "half") -> bool:
        status, answer = server.get(f"/v1/models/{model}")
        states = {} if status != 200 else {v["version"]: v["state"] for v in answer["model_version_status"]}
        return states.get(str(version)) == "AVAILABLE"


@contextmanager
def serving(
    *arguments: str,
    env: dict[str, str] | None = None,
    command: Sequence[str] = SERVE,
    ports: tuple[int, int] | None = None,
) -> Iterator[Serving]:
    """Ends well, unless it was killed."""
    server = Serving(*arguments, "--poll=0.05", env=env, command=command, ports=ports).wait_until_ready()
    try:
        yield server
        if server.process.returncode != -signal.SIGKILL:
            assert server.stop() == 0, server.log()
    finally:
        server.process.kill()
        server.process.wait()


@contextmanager
def small_disk(path: Path, megabytes: int = 1) -> Iterator[None]:
    """Memory as a file system."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path], check=False).returncode:
        pytest.skip("may not mount file systems here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path: Path) -> None:
    with (path / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def nothing_is_lost(clients: Clients) -> None:
    odd = [code for code in clients.codes() if code == "no answer" or code.startswith("wrong")]
    assert not odd, clients.codes()
