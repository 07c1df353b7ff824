"""Versions change under load: no request fails, and every answer is of one whole version."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import grpc
import numpy as np
import pytest
from client_threads import ClientThreads
from serving import Serving
from waiting import wait_until

from pyserving.protos import messages

NAME = "versioned"
Base = tuple[Path, Callable[[int], None]]
VALUES = np.arange(8, dtype=np.float32)


def like(number: int) -> int:
    """Which of the model's three versions is copied to be version ``number``."""
    return (number - 1) % 3 + 1


class Clients(ClientThreads):
    """Connections that ask without a pause, half by REST, half by gRPC. Model ``versioned`` tells its version twice:
    in each value, and in an output of its own; the two must agree."""

    def __init__(self, server: Serving, connections: int) -> None:
        self.failures: list[str] = []
        self.answers: dict[int, int] = {}
        """By version."""
        self._server = server
        asks: list[Callable[[], None]] = [self._ask_rest, self._ask_grpc]
        super().__init__(partial(self._run, asks[i % 2]) for i in range(connections))

    def _run(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except Exception as error:
            self.failures.append(repr(error))

    def _ask_rest(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._server.rest, timeout=30)
        body = json.dumps({"inputs": VALUES.tolist()})
        while not self._stopped.is_set():
            connection.request("POST", f"/v1/models/{NAME}:predict", body)
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                self.failures.append(f"{response.status} {text!r}")
                continue
            outputs = json.loads(text)["outputs"]
            self._check(outputs["y"], outputs["version"], None)

    def _ask_grpc(self) -> None:
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name=NAME))
        tensor = request.inputs["x"]
        tensor.dtype = 1
        tensor.tensor_shape.dim.add(size=len(VALUES))
        tensor.tensor_content = VALUES.tobytes()
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc}") as channel:
            predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            while not self._stopped.is_set():
                answer = messages.PredictResponse.FromString(predict(request.SerializeToString(), timeout=30))
                version = answer.model_spec.version.value
                self._check(list(answer.outputs["y"].float_val), list(answer.outputs["version"].int64_val), version)

    def _check(self, y: list[float], versions: list[int], spec: int | None) -> None:
        version = versions[0]
        whole = y == (VALUES + 10 * version).tolist() and set(versions) == {version}
        if not whole or (spec is not None and like(spec) != version):
            self.failures.append(f"a mixed answer: {y} {versions} {spec}")
        self.answers[version] = self.answers.get(version, 0) + 1


@pytest.fixture
def base(models_folder: Path, tmp_path: Path) -> Base:
    """A base path with version 1, and a function that puts version N there."""
    base_path = tmp_path / NAME

    def drop(number: int) -> None:
        fresh = tmp_path / f"export-{number}"
        shutil.copytree(models_folder / NAME / str(like(number)), fresh)
        base_path.mkdir(exist_ok=True)
        fresh.rename(base_path / str(number))

    drop(1)
    return base_path, drop


def swap(server: Serving, base: Base, swaps: int) -> Clients:
    """Puts one version after the other into the folder, deletes the one before, and waits for each to answer."""
    base_path, drop = base
    clients = Clients(server, 8)
    with clients:
        for number in range(2, swaps + 2):
            clients.answers.pop(like(number), None)
            drop(number)
            wait_until(lambda n=number: clients.answers.get(like(n), 0) >= 20, server.log)  # type: ignore[misc]
            shutil.rmtree(base_path / str(number - 1))
    return clients


def check_swaps(base: Base, swaps: int) -> None:
    server = Serving(str(base[0]), "--poll=0.05").wait_until_ready()
    try:
        clients = swap(server, base, swaps)
        assert clients.failures == []
    finally:
        assert server.stop() == 0


def test_swaps_under_load(base: Base) -> None:
    check_swaps(base, 5)


@pytest.mark.soak
def test_a_hundred_swaps_under_load(base: Base) -> None:
    check_swaps(base, 100)


def test_a_version_that_does_not_load_leaves_the_old_one_serving(
    base: Base,
) -> None:
    server = Serving(str(base[0]), "--poll=0.05").wait_until_ready()
    try:
        with Clients(server, 4) as clients:
            broken = base[0].parent / "broken"
            broken.mkdir()
            (broken / "saved_model.pb").write_bytes(b"this is not a SavedModel")
            broken.rename(base[0] / "2")
            wait_until(lambda: "Can't parse" in server.log(), server.log)
            before = clients.answers.get(1, 0)
            wait_until(lambda: clients.answers.get(1, 0) >= before + 50)
        assert clients.failures == []
        assert set(clients.answers) == {1}
        states = {int(s["version"]): s["state"] for s in server.get(f"/v1/models/{NAME}")[1]["model_version_status"]}
        assert states[1] == "AVAILABLE"
        assert states[2] != "AVAILABLE"
    finally:
        assert server.stop() == 0


def test_a_stop_under_load_answers_what_was_accepted(base: Base) -> None:
    server = Serving(str(base[0])).wait_until_ready()
    clients = Clients(server, 8)
    with clients:
        wait_until(lambda: sum(clients.answers.values()) >= 200)
        assert server.stop() == 0
    # Clients find the port closed, or their idle connection; but no answer is an error or half an answer.
    for failure in clients.failures:
        assert any(
            sign in failure
            for sign in ("RemoteDisconnected", "ConnectionRefused", "ConnectionReset", "BrokenPipe", "UNAVAILABLE")
        ), failure
