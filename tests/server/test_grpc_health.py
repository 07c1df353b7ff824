"""grpc.health.v1.Health as its own client library sees it."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from model_files import write_model
from running_server import RunningServer
from waiting import LIMIT

from pyserving.api import health
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server import readiness
from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]

WAIT = LIMIT
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
SERVICES = ("PredictionService", "ModelService", "tensorflow.serving.PredictionService")


@pytest.fixture
def health_of() -> Iterator[Callable[[RunningServer], HealthStub]]:
    channels = []

    def open_stub(server: RunningServer) -> HealthStub:
        channels.append(grpc.insecure_channel(server.server.ports.grpc_addresses[0]))
        return HealthStub(channels[-1])

    yield open_stub
    for channel in channels:
        channel.close()


def check(stub: HealthStub, service: str) -> int:
    return stub.Check(HealthCheckRequest(service=service), timeout=WAIT).status


def watch(stub: HealthStub, service: str) -> Any:
    return stub.Watch(HealthCheckRequest(service=service), timeout=WAIT)


def test_check_and_watch_follow_the_models_and_the_drain(
    start: Start, health_of: Any, model_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    models = [ModelConfig("m", str(model_dir("half_plus_three"))), ModelConfig("empty", str(tmp_path))]
    server = start(models)
    server.settled("m")
    stub = health_of(server)
    assert check(stub, "") == NOT_SERVING
    assert [check(stub, service) for service in SERVICES] == [SERVING] * 3
    assert check(stub, "m") == SERVING
    assert check(stub, "empty") == NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        check(stub, "unknown")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    watches = {service: watch(stub, service) for service in ("", "m", "empty", SERVICES[0])}
    first = {service: next(statuses).status for service, statuses in watches.items()}
    assert first == {"": NOT_SERVING, "m": SERVING, "empty": NOT_SERVING, SERVICES[0]: SERVING}

    server.reload(
        [messages.ModelConfig(name="m", base_path=str(model_dir("half_plus_three")), model_platform="tensorflow")]
    )
    assert next(watches[""]).status == SERVING
    assert next(watches["empty"]).status == HealthCheckResponse.SERVICE_UNKNOWN

    server.stop()
    for service in ("", "m", SERVICES[0]):
        assert [status.status for status in _until_failure(watches[service])] == [NOT_SERVING]
        assert watches[service].code() is grpc.StatusCode.UNAVAILABLE
    assert list(_until_failure(watches["empty"])) == []


def test_watch_of_a_model_that_is_still_to_come(
    start: Start, health_of: Any, model_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    server = start([ModelConfig("m", str(tmp_path))])
    stub = health_of(server)
    statuses = watch(stub, "m")
    unknown = watch(stub, "later")
    assert next(statuses).status == NOT_SERVING
    assert next(unknown).status == HealthCheckResponse.SERVICE_UNKNOWN
    version = next(model_dir("half_plus_three").iterdir())
    (tmp_path / version.name).symlink_to(version)
    assert next(statuses).status == SERVING
    statuses.cancel()


LOADS_UNLESS_BROKEN = """
    import numpy as np
    from pyserving import Model, Tensor

    class Fragile(Model):
        isolation = "process"

        def load(self, folder):
            if (folder / "broken").exists():
                raise ValueError("broken")

        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return x
    """


def test_watch_tells_of_a_model_whose_process_stays_away(
    start: Start, health_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "DOWN_SECONDS", 0.0)
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.02)
    server = start(
        [write_model(tmp_path, "m", LOADS_UNLESS_BROKEN)], python_options=PythonOptions(PythonModels.PROCESS)
    )
    server.settled("m")
    stub = health_of(server)
    statuses, all_models = watch(stub, "m"), watch(stub, "")
    assert (next(statuses).status, next(all_models).status) == (SERVING, SERVING)
    (model,) = server.server.directory.serving.served().values()
    (tmp_path / "m" / "1" / "broken").touch()
    os.kill(model.pid, signal.SIGKILL)
    assert (next(statuses).status, next(all_models).status) == (NOT_SERVING, NOT_SERVING)
    (tmp_path / "m" / "1" / "broken").unlink()
    assert (next(statuses).status, next(all_models).status) == (SERVING, SERVING)
    statuses.cancel()
    all_models.cancel()


def test_without_the_flag_there_is_no_such_service(start: Start, health_of: Any) -> None:
    stub = health_of(start([], grpc_health=False))
    with pytest.raises(grpc.RpcError) as caught:
        check(stub, "")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def _until_failure(statuses: Any) -> Iterator[HealthCheckResponse]:
    try:
        yield from statuses
    except grpc.RpcError:
        return
