"""Faults under load: every request is answered, with what is right or with an error that says what is wrong."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from chaos_clients import OK, WAIT, Clients
from serving import SERVE, Serving

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc to look at processes"),
]

Tell = Callable[[str, Clients], None]
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


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.005)


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


@pytest.fixture
def folder(models_folder: Path, tmp_path: Path) -> Folder:
    return Folder(tmp_path, models_folder)


@contextmanager
def serving(*arguments: str, env: dict[str, str] | None = None, command: Sequence[str] = SERVE) -> Iterator[Serving]:
    server = Serving(*arguments, "--poll=0.05", env=env, command=command).wait_until_ready()
    try:
        yield server
        assert server.stop() == 0, server.log()
    finally:
        server.process.kill()
        server.process.wait()


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """1 MB of memory as a file system."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=False).returncode:
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


def test_kill_9_of_a_worker(folder: Folder, tell: Tell) -> None:
    with serving(folder.configure(), "--workers=2") as server, Clients(server, "half", number=4) as clients:
        (nursery,) = descendants(server.process.pid)[:1]
        worker = descendants(nursery)[0]
        clients.broken()
        os.kill(worker, signal.SIGKILL)
        until(lambda: server.log().count("takes part") == 3, "there is another worker")
        clients.wait_for(500)
    tell("kill -9 of one of two workers", clients)
    nothing_is_lost(clients)
    assert clients.codes().keys() <= {OK, "connection lost", "gRPC UNAVAILABLE"}, clients.codes()


def test_kill_9_of_an_isolated_model(folder: Folder, tell: Tell) -> None:
    config = folder.configure(half="pyserving { isolation: PROCESS }")
    with serving(config) as server, Clients(server, "half", "other") as clients:
        (process,) = running(server, "pyserving.platforms.process")
        clients.broken()
        os.kill(process, signal.SIGKILL)
        until(lambda: "runs again" in server.log(), "it runs again")
        clients.wait_for(200, "half")
        clients.wait_for(200, "other")
    tell("kill -9 of a model's own process; another model beside it", clients)
    nothing_is_lost(clients)
    assert clients.codes("other").keys() == {OK}, clients.codes("other")
    assert clients.codes("half").keys() <= {OK, "REST 503", "gRPC UNAVAILABLE"}, clients.codes("half")


def test_kill_9_of_an_engine_s_trial(folder: Folder, tell: Tell, acceleration_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cnn").symlink_to(acceleration_folder / "cnn")
    config = folder.configure()
    text = folder.config.read_text().removesuffix("}")
    folder.config.write_text(
        f'{text} config {{ name: "cnn" base_path: "{tmp_path}/cnn" model_platform: "tensorflow" }} }}'
    )
    arguments = (config, "--accelerate=openvino", f"--acceleration-cache={tmp_path}/cache")
    with serving(*arguments) as server, Clients(server, "half") as clients:
        until(lambda: bool(running(server, "acceleration.trial_process")), "an engine is tried")
        clients.broken()
        os.kill(running(server, "acceleration.trial_process")[0], signal.SIGKILL)
        until(lambda: "ended by signal 9" in server.log(), "the log says so")
        clients.wait_for(500)
    tell("kill -9 of the process that compiles for another engine", clients)
    assert clients.codes().keys() == {OK}, clients.codes()


def test_kill_9_of_a_worker_in_the_middle_of_a_swap(folder: Folder, tell: Tell) -> None:
    arguments = (folder.configure(), "--workers=2", "--python-models=on")
    with serving(*arguments) as server, Clients(server, "half", number=4) as clients:
        worker = descendants(descendants(server.process.pid)[0])[0]
        folder.put_slow("half", 2)
        until(lambda: LOADING in server.log(), "version 2 is loading")
        clients.broken()
        os.kill(worker, signal.SIGKILL)
        until(lambda: folder.is_at(server, 2), "version 2 is available")
        clients.wait_for(500)
    tell("kill -9 of one of two workers while the next version loads", clients)
    nothing_is_lost(clients)
    assert clients.codes().keys() <= {OK, "connection lost", "gRPC UNAVAILABLE"}, clients.codes()


def test_disk_full_for_the_request_log(folder: Folder, tell: Tell, tmp_path: Path) -> None:
    with small_disk(tmp_path / "log"):
        config = folder.configure(
            half=f'logging_config {{ log_collector_config {{ filename_prefix: "{tmp_path}/log/half" }} '
            "sampling_config { sampling_rate: 1 } }"
        )
        with serving(config) as server, Clients(server, "half") as clients:
            clients.broken()
            fill(tmp_path / "log")
            until(lambda: "No space left" in server.log(), "the log says so")
            clients.wait_for(500)
        tell("disk full for the request log", clients)
        assert clients.codes().keys() == {OK}, clients.codes()


def test_disk_full_for_the_models(folder: Folder, tell: Tell, tmp_path: Path) -> None:
    """A copy of a version breaks off in the middle."""
    whole = next(folder.put("spare", 1).iterdir()).parent
    with small_disk(tmp_path / "disk"):
        shutil.copytree(whole, tmp_path / "disk" / "half" / "1")
        folder.configure()
        folder.config.write_text(folder.config.read_text().replace(f"{tmp_path}/half", f"{tmp_path}/disk/half"))
        with serving(f"--config={folder.config}") as server, Clients(server, "half") as clients:
            clients.broken()
            fill(tmp_path / "disk")
            (tmp_path / "disk" / "half" / "2").mkdir()
            with pytest.raises(OSError, match="No space left"):
                (tmp_path / "disk" / "half" / "2" / "saved_model.pb").write_bytes(
                    (whole / "saved_model.pb").read_bytes()
                )
            until(lambda: LOADING in server.log(), "the server has seen it")
            clients.wait_for(500)
            (tmp_path / "disk" / "filler").unlink()
            shutil.rmtree(tmp_path / "disk" / "half" / "2")
            shutil.copytree(whole, tmp_path / "disk" / "half" / "fresh")
            (tmp_path / "disk" / "half" / "fresh").rename(tmp_path / "disk" / "half" / "3")
            until(lambda: folder.is_at(server, 3), "the next version is available")
            clients.wait_for(200)
        tell("disk full for the models: a version that breaks off, then a whole one", clients)
        assert clients.codes().keys() == {OK}, clients.codes()


@pytest.mark.parametrize("fault", ["replaced", "removed"])
def test_a_version_that_changes_while_it_loads(folder: Folder, tell: Tell, fault: str) -> None:
    arguments = (folder.configure(), "--python-models=on")
    with serving(*arguments) as server, Clients(server, "half") as clients:
        path = folder.put_slow("half", 2)
        until(lambda: LOADING in server.log(), "version 2 is loading")
        clients.broken()
        path.rename(folder.folder / "gone")
        if fault == "replaced":
            folder.put("half", 2)
        else:
            until(lambda: folder.is_at(server, 1) and not folder.is_at(server, 2), "version 1 serves")
        clients.wait_for(500)
        folder.put("half", 3)
        until(lambda: folder.is_at(server, 3), "the next version is available")
        clients.wait_for(200)
    tell(f"version folder {fault} while it loads, then the next version", clients)
    assert clients.codes().keys() == {OK}, clients.codes()
