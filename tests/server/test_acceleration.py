"""A server whose signatures go to another engine while clients ask, and back where it is wrong."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from running_server import PREDICTION, RunningServer, predict_request
from waiting import wait_until

from pyserving.acceleration.accelerator import Acceleration, AccelerationOptions
from pyserving.acceleration.cache import Entry
from pyserving.core.state import State
from pyserving.platforms.model import Array
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.protos import messages
from pyserving.server.loaders import accelerator_of
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig
from pyserving.wire.tensor_proto import read_tensor, write_tensor


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests of this file, so that the models are compiled but once."""
    return tmp_path_factory.mktemp("acceleration")


Serve = Callable[..., RunningServer]


@pytest.fixture
def serve(acceleration_folder: Path) -> Iterator[Serve]:
    started: list[RunningServer] = []

    def start(name: str, cache: Path, folder: Path = acceleration_folder) -> RunningServer:
        server = RunningServer(
            [ModelConfig(name, str(folder / name))],
            acceleration=AccelerationOptions(Acceleration.OPENVINO, str(cache)),
        )
        started.append(server)
        server.settled(name)
        return server

    yield start
    for server in started:
        server.stop()


def engine(server: RunningServer, name: str, signature: str = "serving_default") -> str:
    """As the metrics page tells it."""
    start = f'pyserving_signature_engine{{model_name="{name}",version="1",signature="{signature}",engine="'
    (found,) = (label for label in server.metrics() if label.startswith(start))
    return found.removeprefix(start).removesuffix('"}')


def count(server: RunningServer, what: str, name: str) -> float:
    return server.metrics().get(f'pyserving_{what}_answers_total{{model_name="{name}"}}', 0)


def ask(server: RunningServer, name: str, array: Array) -> Array | str:
    """The answer by gRPC, or the text of the error."""
    request = predict_request(name)
    (alias,) = _inputs(server, name)
    request.inputs[alias].CopyFrom(messages.TensorProto.FromString(write_tensor(array)))
    try:
        answer = server.call(PREDICTION + "Predict", request, messages.PredictResponse)
    except grpc.RpcError as error:
        text: str = error.details()  # type: ignore[attr-defined]
        return text
    (output,) = answer.outputs.values()
    return read_tensor(output, "out")


def _inputs(server: RunningServer, name: str) -> list[str]:
    shown = json.loads(server._fetch(f"/v1/models/{name}/metadata", None))
    return list(shown["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"])


def images(rows: int = 2, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, 28, 28, 1)).astype(np.float32)


def trial_processes() -> list[int]:
    """The children of this process that try an engine."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            children = Path(f"/proc/self/task/{task}/children").read_text().split()
        except FileNotFoundError:  # the thread has just ended
            continue
        for child in children:
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if b"pyserving.acceleration.trial_process" in command:
                found.append(int(child))
    return found


def special() -> dict[str, Array]:
    """What was not compared: TensorFlow answers it."""
    nan, infinite = images(), images()
    nan[1, 2, 3] = np.nan
    infinite[0, 0, 0] = np.inf
    return {
        "nan": nan,
        "inf": infinite,
        "large": images() * 1e6,
        "no rows": images(0),
        "other shape": images().reshape(2, 28, 14, 2),
        "another type": images().astype(np.int32),
    }


def test_an_engine_takes_over_under_load_without_a_failed_request(serve: Serve, cache: Path) -> None:
    server = serve("cnn", cache)
    before = {what: ask(server, "cnn", array) for what, array in special().items()}
    image = images()
    expected = ask(server, "cnn", image)
    assert isinstance(expected, np.ndarray)
    assert engine(server, "cnn") == "tensorflow"
    answers: list[Any] = []
    over = threading.Event()

    def by_rest() -> None:
        while not over.is_set():
            answers.append(np.array(server.post("cnn:predict", {"instances": image.tolist()})["predictions"]))

    def by_grpc() -> None:
        while not over.is_set():
            answers.append(ask(server, "cnn", image))

    clients = [threading.Thread(target=target) for target in (by_rest, by_grpc, by_grpc)]
    for client in clients:
        client.start()
    try:
        wait_until(lambda: engine(server, "cnn") == "openvino")
        wait_until(lambda: count(server, "compared", "cnn") >= 2)
    finally:
        over.set()
        for client in clients:
            client.join()
    assert len(answers) > 20
    for answer in answers:
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert count(server, "disagreeing", "cnn") == 0
    for what, array in special().items():
        after = ask(server, "cnn", array)
        np.testing.assert_array_equal(after, before[what], err_msg=what)


def test_an_engine_that_goes_wrong_gives_the_signature_back(
    serve: Serve, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights of other values lie in the cache: nothing but a comparison can tell."""
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    for verdict in copy.glob("*/verdict.json"):
        for weights in verdict.parent.rglob("*.bin"):
            content = weights.read_bytes()
            numbers = np.frombuffer(content[: len(content) // 4 * 4], np.float32).copy()
            numbers[(np.abs(numbers) > 1e-3) & (np.abs(numbers) < 1)] *= 1.01
            weights.write_bytes(numbers.tobytes() + content[numbers.nbytes :])
        Entry.write(str(verdict.parent), json.loads(verdict.read_text())["verdict"])

    server = serve("cnn", copy)
    expected = ask(server, "cnn", images())
    wait_until(lambda: engine(server, "cnn") == "openvino")
    wait_until(lambda: bool(ask(server, "cnn", images()) is not None) and count(server, "disagreeing", "cnn") == 1)
    assert engine(server, "cnn") == "tensorflow"
    np.testing.assert_allclose(ask(server, "cnn", images()), expected, rtol=1e-6)
    assert "back to TensorFlow" in caplog.text

    server.stop()
    again = serve("cnn", copy)
    accelerator = again.server._front._accelerator
    (servable,) = accelerator.servables()
    wait_until(lambda: bool(accelerator._reasons.get(servable)))
    report = accelerator.report(servable)["serving_default"]
    assert report.engine == "tensorflow"
    assert "it answered a request otherwise" in report.others["openvino"]
    assert trial_processes() == []


def test_what_keeps_state_or_is_random_or_text_stays(serve: Serve, cache: Path) -> None:
    server = serve("state", cache)
    accelerator = server.server._front._accelerator
    (servable,) = accelerator.servables()
    wait_until(lambda: bool(accelerator._reasons.get(servable)))
    report = accelerator.report(servable)
    assert {each.engine for name, each in report.items()} == {"tensorflow"}
    assert "keep state" in report["counts"].others["openvino"]
    assert "random" in report["random"].others["openvino"]
    assert "string" in report["text"].others["openvino"].lower()
    assert trial_processes() == []


def test_killing_the_trial_harms_nothing(serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = serve("cnn", tmp_path)
    wait_until(lambda: bool(list(tmp_path.glob(".new-*"))))
    (process,) = trial_processes()
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: "was not tried" in caplog.text)
    assert caplog.text.count("was not tried") == 1
    assert "signal 9" in caplog.text
    assert trial_processes() == []
    assert not list(tmp_path.glob(".new-*"))
    assert isinstance(ask(server, "cnn", images()), np.ndarray)
    assert engine(server, "cnn") == "tensorflow"


@pytest.mark.parametrize("how", ["unloaded", "stopped"])
def test_a_trial_ends_with_its_version_and_with_the_server(serve: Serve, tmp_path: Path, how: str) -> None:
    server = serve("cnn", tmp_path)
    wait_until(lambda: bool(list(tmp_path.glob(".new-*"))))
    if how == "unloaded":
        server.reload([])
    else:
        server.stop()
        assert not [
            each for each in threading.enumerate() if each.name in ("pyserving-acceleration", "pyserving-shadow")
        ]
        assert trial_processes() == []
    wait_until(lambda: not trial_processes())
    wait_until(lambda: not list(tmp_path.glob(".new-*")))


def test_versions_come_and_go_without_a_trace(serve: Serve, cache: Path, acceleration_folder: Path) -> None:
    """The engine is opened from the cache each time; some are unloaded while it is, some are asked meanwhile."""
    server = serve("cnn", cache)
    wait_until(lambda: engine(server, "cnn") == "openvino")
    config = messages.ModelConfig(name="cnn", base_path=str(acceleration_folder / "cnn"), model_platform="tensorflow")

    def traces() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    seen = []
    for turn in range(8):
        server.reload([])
        wait_until(lambda: all(state.state is State.END for state in server.server.directory.monitor.states("cnn")))
        server.reload([config])
        server.settled("cnn")
        assert isinstance(ask(server, "cnn", images()), np.ndarray)
        if turn % 2:
            wait_until(lambda: engine(server, "cnn") == "openvino")
            assert isinstance(ask(server, "cnn", images()), np.ndarray)
            seen.append(traces())
    assert seen[-1][0] <= seen[0][0] + 2
    assert seen[-1][1] <= seen[0][1] + 2


@pytest.mark.parametrize(
    ("settings", "enabled"),
    [
        ({}, True),
        ({"session_service": True}, False),
        ({"model_memory_limit": 1 << 30}, False),
        ({"session_options": SessionOptions(bfloat16=True)}, False),
        ({"session_options": SessionOptions(config_file="file")}, False),
        ({"acceleration": AccelerationOptions(Acceleration.OFF)}, False),
        ({"acceleration": AccelerationOptions(Acceleration.OPENVINO), "model_memory_limit": 1 << 30}, True),
    ],
)
def test_when_it_is_off(settings: dict[str, Any], enabled: bool) -> None:
    pytest.importorskip("openvino")
    options = {"acceleration": AccelerationOptions(Acceleration.AUTO)} | settings
    assert accelerator_of(Settings(models=[], **options)).enabled is enabled
