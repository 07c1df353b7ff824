"""Faults under load: every request is answered, with what is right or with an error that says what is wrong."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_clients import OK, Clients
from chaos_server import (
    LOADING,
    Folder,
    descendants,
    fill,
    nothing_is_lost,
    running,
    serving,
    small_disk,
)
from waiting import wait_until

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc to look at processes"),
]

Tell = Callable[[str, Clients], None]


def test_kill_9_of_a_worker(folder: Folder, tell: Tell) -> None:
    with serving(folder.configure(), "--workers=2") as server, Clients(server, "half", number=4) as clients:
        (nursery,) = descendants(server.process.pid)[:1]
        worker = descendants(nursery)[0]
        clients.broken()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.log().count("takes part") == 3, "there is another worker")
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
        wait_until(lambda: "runs again" in server.log(), "it runs again")
        clients.wait_for(200, "half")
        clients.wait_for(200, "other")
    tell("kill -9 of a model's own process; another model beside it", clients)
    nothing_is_lost(clients)
    assert clients.codes("other").keys() == {OK}, clients.codes("other")
    assert clients.codes("half").keys() <= {OK, "REST 503", "gRPC UNAVAILABLE"}, clients.codes("half")


def test_kill_9_of_the_process_that_a_version_is_loaded_in(folder: Folder, tell: Tell) -> None:
    arguments = (folder.configure(half="pyserving { isolation: PROCESS }"), "--python-models=on")
    with serving(*arguments) as server, Clients(server, "half") as clients:
        before = running(server, "pyserving.platforms.process")
        folder.put_slow("half", 2)
        wait_until(lambda: len(running(server, "pyserving.platforms.process")) == 2, "version 2 has a process")
        clients.broken()
        (process,) = set(running(server, "pyserving.platforms.process")) - set(before)
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: "to load servable {name: half version: 2} failed" in server.log(), "the log says so")
        clients.wait_for(500)
        folder.put("half", 3)
        wait_until(lambda: folder.is_at(server, 3), "the next version is available")
        clients.wait_for(200)
    tell("kill -9 of the process of its own that the next version loads in, then the next version", clients)
    assert clients.codes().keys() == {OK}, clients.codes()


def test_kill_9_of_an_engine_s_trial(folder: Folder, tell: Tell, acceleration_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cnn").symlink_to(acceleration_folder / "cnn")
    config = folder.configure()
    text = folder.config.read_text().removesuffix("}")
    folder.config.write_text(
        f'{text} config {{ name: "cnn" base_path: "{tmp_path}/cnn" model_platform: "tensorflow" }} }}'
    )
    arguments = (config, "--accelerate=openvino", f"--acceleration-cache={tmp_path}/cache")
    with serving(*arguments) as server, Clients(server, "half") as clients:
        wait_until(lambda: bool(running(server, "acceleration.trial_process")), "an engine is tried")
        clients.broken()
        os.kill(running(server, "acceleration.trial_process")[0], signal.SIGKILL)
        wait_until(lambda: "ended by signal 9" in server.log(), "the log says so")
        clients.wait_for(500)
    tell("kill -9 of the process that compiles for another engine", clients)
    assert clients.codes().keys() == {OK}, clients.codes()


def test_kill_9_of_a_worker_in_the_middle_of_a_swap(folder: Folder, tell: Tell) -> None:
    arguments = (folder.configure(), "--workers=2", "--python-models=on")
    with serving(*arguments) as server, Clients(server, "half", number=4) as clients:
        worker = descendants(descendants(server.process.pid)[0])[0]
        folder.put_slow("half", 2)
        wait_until(lambda: LOADING in server.log(), "version 2 is loading")
        clients.broken()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: folder.is_at(server, 2), "version 2 is available")
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
            wait_until(lambda: "No space left" in server.log(), "the log says so")
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
            wait_until(lambda: LOADING in server.log(), "the server has seen it")
            clients.wait_for(500)
            (tmp_path / "disk" / "filler").unlink()
            shutil.rmtree(tmp_path / "disk" / "half" / "2")
            shutil.copytree(whole, tmp_path / "disk" / "half" / "fresh")
            (tmp_path / "disk" / "half" / "fresh").rename(tmp_path / "disk" / "half" / "3")
            wait_until(lambda: folder.is_at(server, 3), "the next version is available")
            clients.wait_for(200)
        tell("disk full for the models: a version that breaks off, then a whole one", clients)
        assert clients.codes().keys() == {OK}, clients.codes()


@pytest.mark.parametrize("fault", ["replaced", "removed"])
def test_a_version_that_changes_while_it_loads(folder: Folder, tell: Tell, fault: str) -> None:
    arguments = (folder.configure(), "--python-models=on")
    with serving(*arguments) as server, Clients(server, "half") as clients:
        path = folder.put_slow("half", 2)
        wait_until(lambda: LOADING in server.log(), "version 2 is loading")
        clients.broken()
        path.rename(folder.folder / "gone")
        if fault == "replaced":
            folder.put("half", 2)
        else:
            wait_until(lambda: folder.is_at(server, 1) and not folder.is_at(server, 2), "version 1 serves")
        clients.wait_for(500)
        folder.put("half", 3)
        wait_until(lambda: folder.is_at(server, 3), "the next version is available")
        clients.wait_for(200)
    tell(f"version folder {fault} while it loads, then the next version", clients)
    assert clients.codes().keys() == {OK}, clients.codes()
