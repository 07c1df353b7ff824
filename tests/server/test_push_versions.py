"""Versions are aspired over gRPC, REST and Python where a model's source is PUSH."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from running_server import RunningServer
from waiting import wait_until

from pyserving.core.servable import ServableId
from pyserving.core.state import State
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig, config_of

SET_ASPIRED = "/pyserving.VersionService/SetAspired"
Start = Callable[..., RunningServer]
PUSH = messages.ModelOptions(source="PUSH")


def tables(base: Path, *versions: int) -> None:
    for version in versions:
        (base / str(version)).mkdir(parents=True)
        (base / str(version) / "table.csv").write_text(f"key,value\na,{version}\n")


def push(server: RunningServer, *numbers: int, **paths: str) -> messages.SetAspiredResponse:
    request = messages.SetAspiredRequest(model="m")
    for number in numbers:
        request.versions.add(number=number, path=paths.get(f"v{number}", ""))
    answer: messages.SetAspiredResponse = server.call(SET_ASPIRED, request, messages.SetAspiredResponse)
    return answer


def answer(server: RunningServer) -> int:
    (prediction,) = server.post("m:predict", {"instances": [{"key": "a"}]})["predictions"]
    value: int = prediction["value"]
    return value


def state(server: RunningServer, version: int) -> State | None:
    found = server.server.directory.monitor.state(ServableId("m", version))
    return None if found is None else found.state


def test_versions_come_and_go_as_they_are_pushed(start: Start, tmp_path: Path) -> None:
    tables(tmp_path / "m", 1, 2)
    (tmp_path / "m/2").rename(tmp_path / "m/candidate")
    server = start([ModelConfig("m", str(tmp_path / "m"), options=PUSH)])
    assert state(server, 1) is None
    answered = push(server, 1)
    assert [(version.number, version.path) for version in answered.versions] == [(1, str(tmp_path.resolve() / "m/1"))]
    server.settled("m", 1)
    assert answer(server) == 1
    answered = server.post("m:aspire", {"versions": [{"number": 1}, {"number": "2", "path": "candidate"}]})
    assert [version["number"] for version in answered["versions"]] == ["1", "2"]
    server.settled("m", 2)
    assert answer(server) == 2
    server.reload(config_of(server.server.directory.models).model_config_list.config)
    assert answer(server) == 2
    server.on_loop(server.server.set_aspired("m", {1: ""}))
    wait_until(lambda: state(server, 2) is State.END)
    assert answer(server) == 1


def test_a_model_that_is_polled_becomes_one_that_is_pushed(start: Start, tmp_path: Path) -> None:
    tables(tmp_path / "m", 1, 2)
    config = ModelConfig("m", str(tmp_path / "m"))
    server = start([config])
    server.settled("m", 2)
    with pytest.raises(grpc.RpcError, match="source: PUSH") as raised:
        push(server, 1)
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    server.reload(config_of([ModelConfig("m", str(tmp_path / "m"), options=PUSH)]).model_config_list.config)
    assert answer(server) == 2
    push(server, 1)
    server.settled("m", 1)
    wait_until(lambda: state(server, 2) is State.END)
    assert answer(server) == 1


def test_what_cannot_be_pushed(start: Start, tmp_path: Path) -> None:
    tables(tmp_path / "m", 1)
    server = start([ModelConfig("m", str(tmp_path / "m"), options=PUSH)])
    for paths, code in (({"v1": "/etc"}, "INVALID_ARGUMENT"), ({"v1": "missing"}, "NOT_FOUND")):
        with pytest.raises(grpc.RpcError) as raised:
            push(server, 1, **paths)
        assert raised.value.code().name == code
    with pytest.raises(grpc.RpcError, match="1 twice"):
        push(server, 1, 1)
    for body in ({}, {"versions": [1]}, {"versions": [{"number": True}]}, {"versions": [], "other": 1}):
        with pytest.raises(AssertionError, match=": 400 "):
            server.post("m:aspire", body)
    with pytest.raises(AssertionError, match=": 404 "):
        server.post("unknown:aspire", {"versions": []})
    assert state(server, 1) is None
