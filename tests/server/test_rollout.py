"""Default versions are moved by hand and by config; traffic is divided, and copied for comparison."""

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from golden_requests import golden, tensor_of, write_linear
from running_server import PREDICTION, RunningServer
from test_version_gate import ON, linear, load, options, predict
from waiting import wait_until

from pyserving.core.servable import ServableId
from pyserving.core.state import State
from pyserving.protos import messages
from pyserving.server import rollout
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_policy import All

Start = Callable[..., RunningServer]
ROLLOUT = "/pyserving.RolloutService/"


def promote(server: RunningServer, **target: Any) -> tuple[int, int]:
    request = messages.PromoteRequest(model="m", **target)
    answer = server.call(ROLLOUT + "Promote", request, messages.RolloutResponse)
    return answer.version, answer.previous_version


def rollback(server: RunningServer) -> tuple[int, int]:
    answer = server.call(ROLLOUT + "Rollback", messages.RollbackRequest(model="m"), messages.RolloutResponse)
    return answer.version, answer.previous_version


def test_a_version_that_is_taken_away_while_it_is_promoted_keeps_nobody_waiting(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "LOOK_SECONDS", 0.05)
    base = tmp_path / "m"
    versions(base, 1, 2)
    server = start([linear(base)], python_options=ON)
    server.settled("m", 2)
    with monkeypatch.context() as gone:  # as if its folder went in the moment between
        gone.setattr(server.server.catalog, "_kept", lambda *_: {})
        code, text = refusal(lambda: promote(server, version=1))
        assert (code, "was taken away" in text) == (grpc.StatusCode.ABORTED, True)
    assert (add_of(server), available(server)) == (2, [2])
    assert promote(server, version=1) == (1, 2)
    assert add_of(server) == 1


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def available(server: RunningServer) -> list[int]:
    return server.server.directory.serving.available("m")


def add_of(server: RunningServer, path: str = "m") -> float:
    """What the version that answers adds: its own number, if it was written with that."""
    return predict(server, 0.0, path)


def asked(server: RunningServer, key: str | None, path: str = "m") -> float:
    url = f"http://{server.server.ports.rest_address}/v1/models/{path}:predict"
    headers = {} if key is None else {"X-Routing-Key": key}
    request = urllib.request.Request(url, b'{"instances":[0.0]}', headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        (y,) = json.load(answer)["predictions"]
    assert isinstance(y, float)
    return y


def versions(base: Path, *numbers: int) -> None:
    for number in numbers:
        write_linear(base, number, add=number)


def test_a_manual_model_answers_by_a_new_version_only_once_it_is_promoted(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1)
    server = start([linear(base, "gate { manual: true }")], python_options=ON)
    server.settled("m", 1)
    versions(base, 2)
    server.settled("m", 2)
    assert (add_of(server), add_of(server, "m/versions/1"), add_of(server, "m/versions/2")) == (1, 1, 2)
    with load(server) as answers:
        assert promote(server, version=2) == (2, 1)
        wait_until(lambda: available(server) == [2])
        versions(base, 3)
        server.settled("m", 3)
        assert add_of(server) == 2
        assert rollback(server) == (1, 2), "it was gone, and is loaded again"
        assert add_of(server) == 1
        assert promote(server) == (3, 1)
        wait_until(lambda: available(server) == [3])
    assert set(answers) == {1.0, 2.0, 3.0}


def test_a_rollback_lasts_until_the_newest_is_promoted(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1)
    server = start([linear(base)], python_options=ON)
    server.settled("m", 1)
    versions(base, 2)
    wait_until(lambda: available(server) == [2])
    assert rollback(server) == (1, 2)
    versions(base, 3)
    server.settled("m", 3)
    wait_until(lambda: available(server) == [3, 1])
    assert add_of(server) == 1
    assert promote(server, version=3) == (3, 1)
    versions(base, 4)
    wait_until(lambda: available(server) == [4])
    assert add_of(server) == 4, "it follows its highest version again"


def test_a_rollback_to_what_was_never_served_takes_the_next_lower_version(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1, 3, 7)
    server = start([linear(base)], python_options=ON)
    server.settled("m", 7)
    assert rollback(server) == (3, 7)
    assert rollback(server) == (1, 3)
    code, text = refusal(lambda: rollback(server))
    assert (code, text) == (grpc.StatusCode.FAILED_PRECONDITION, "Model m has no version before 1")


def test_a_rollback_is_not_held_up_by_the_gate(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1)
    server = start([linear(base)], python_options=ON)
    server.settled("m", 1)
    versions(base, 2)
    wait_until(lambda: available(server) == [2])
    path = tmp_path / "golden"
    path.write_bytes(golden(1, add=2))
    config = messages.ModelConfig(
        name="m",
        base_path=str(base),
        model_platform="tensorflow",
        pyserving=options(f'gate {{ golden_requests: "{path}" }}'),
    )
    server.reload([config])
    assert rollback(server) == (1, 2)
    assert add_of(server) == 1


def test_what_cannot_be_promoted(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1)
    server = start([linear(base)], python_options=ON)
    server.settled("m", 1)
    write_linear(base, 2, add=2, pyserving_golden_requests=golden(1, add=1))
    server.settled("m", 2)
    failed = "Version 2 of model m failed: refused by its check of answers: 1 of 1 golden requests"
    assert refusal(lambda: promote(server, version=2))[1].startswith(failed)
    assert refusal(lambda: promote(server, version=9))[1] == "Could not find version 9 of model m"
    assert refusal(lambda: promote(server, label="x"))[1] == "Unrecognized servable version label: x"
    unknown = messages.PromoteRequest(model="unknown")
    code, text = refusal(lambda: server.call(ROLLOUT + "Promote", unknown, messages.RolloutResponse))
    assert (code, text) == (grpc.StatusCode.NOT_FOUND, "Could not find model unknown")
    assert add_of(server) == 1


def test_over_rest(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1, 2)
    config = ModelConfig("m", str(base), version_policy=All(), labels={"stable": 1})
    server = start([config], python_options=ON)
    server.settled("m", 1)
    server.settled("m", 2)
    assert server.post("m:promote", {"version": "1"}) == {"version": "1", "previous_version": "2"}
    assert add_of(server) == 1
    assert server.post("m:promote", {}) == {"version": "2", "previous_version": "1"}
    assert server.post("m:promote", {"label": "stable"}) == {"version": "1", "previous_version": "2"}
    assert server.post("m:rollback", {}) == {"version": "2", "previous_version": "1"}
    listed = json.loads(server._fetch("/v1/models", None))["models"]["m"]
    assert listed["default_version"] == "2"
    for body, text in (
        ({"versions": 1}, "Expected only version or label; got versions"),
        ({"version": 1, "label": "stable"}, "Expected a version or a label, not both"),
        ({"version": "one"}, "Expected version to be a number; got 'one'"),
    ):
        with pytest.raises(AssertionError, match="400") as caught:
            server.post("m:promote", body)
        assert text in str(caught.value)


def test_the_default_version_of_the_config(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1, 2, 3)
    server = start([linear(base, "traffic { default_version: 2 }")], python_options=ON)
    server.settled("m", 2)
    assert add_of(server) == 2
    wait_until(lambda: available(server) == [3, 2])
    config = messages.ModelConfig(name="m", base_path=str(base), model_platform="tensorflow")
    config.pyserving.CopyFrom(options("traffic { default_version: 1 }"))
    with load(server) as answers:
        server.reload([config])
        wait_until(lambda: available(server) == [3, 1] and answers[-1] == 1)
        config.pyserving.CopyFrom(options(""))
        server.reload([config])
        wait_until(lambda: available(server) == [3])
    assert set(answers) == {1.0, 2.0, 3.0}


def test_a_default_version_that_cannot_be_loaded_gives_way(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1, add=1, pyserving_golden_requests=golden(1, add=9))
    versions(base, 2)
    server = start([linear(base, "traffic { default_version: 1 }")], python_options=ON)
    server.settled("m", 2)
    wait_until(lambda: server.server.directory.serving.default("m") == 2)


def test_a_canary_gets_its_share_and_keys_stay_where_they_are(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1, 2)
    text = "traffic { split { label: 'canary' weight: 5 } split { version: 1 weight: 95 } }"
    config = ModelConfig("m", str(base), version_policy=All(), labels={"canary": 2}, options=options(text))
    server = start([config], python_options=ON)
    server.settled("m", 1)
    server.settled("m", 2)
    keys = [f"user-{number}" for number in range(1000)]
    first = {key: asked(server, key) for key in keys}
    counts = Counter(first.values())
    # 1,000 draws at 5 %: a standard deviation is 6.9, and these keys are always the same.
    assert 25 <= counts[2.0] <= 75
    assert {key: asked(server, key) for key in keys[:200]} == {key: first[key] for key in keys[:200]}
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    request.inputs["x"].CopyFrom(tensor_of([0.0]))
    stub = server.channel.unary_unary(
        PREDICTION + "Predict",
        request_serializer=messages.PredictRequest.SerializeToString,
        response_deserializer=messages.PredictResponse.FromString,
    )
    for key in keys[:200]:
        answer = stub(request, metadata=[("x-routing-key", key)], timeout=60)
        assert answer.model_spec.version.value == first[key], "gRPC and REST agree"
    canary = next(key for key in keys if first[key] == 2.0)
    assert asked(server, canary, "m/versions/1") == 1.0, "who names a version gets it"
    assert len({asked(server, None) for _ in range(300)}) == 2, "without a key it is chance"


def test_the_share_of_a_version_that_is_not_there_goes_to_the_rest(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = tmp_path / "m"
    versions(base, 1)
    text = "traffic { split { version: 2 weight: 99 } split { weight: 1 } }"
    server = start([ModelConfig("m", str(base), version_policy=All(), options=options(text))], python_options=ON)
    server.settled("m", 1)
    assert {asked(server, f"{number}") for number in range(30)} == {1.0}
    warning = "Model m: version 2 is not available; its share of the traffic goes to the others"
    assert [record.getMessage() for record in caplog.records].count(warning) == 1
    versions(base, 2)
    server.settled("m", 2)
    assert asked(server, "any") == 2.0


def test_shadow_traffic_is_compared_and_no_client_sees_it(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1)
    write_linear(base, 2, add=1, seconds=0.1)
    text = "traffic { default_version: 1 shadow { version: 2 fraction: 1 } }"
    server = start([ModelConfig("m", str(base), version_policy=All(), options=options(text))], python_options=ON)
    server.settled("m", 1)
    server.settled("m", 2)

    def outcomes() -> dict[str, float]:
        metrics = server.metrics()
        names = ("agreed", "differed", "failed", "dropped")
        label = 'pyserving_shadow_answers_total{model_name="m",outcome="%s"}'
        return {name: metrics.get(label % name, 0) for name in names}

    assert {add_of(server) for _ in range(10)} == {1.0}
    wait_until(lambda: outcomes()["agreed"] == 10)
    # More than it can keep up with: copies are dropped, clients are not held up.
    threads = [threading.Thread(target=lambda: [add_of(server) for _ in range(40)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: sum(outcomes().values()) == 170)
    assert outcomes()["dropped"] > 0
    assert outcomes()["differed"] == outcomes()["failed"] == 0
    shadow = json.loads(server._fetch("/v1/models", None))["models"]["m"]["shadow"]
    assert (shadow["target"], shadow["agreed"]) == ("version 2", outcomes()["agreed"])
    assert shadow["latency_ms"]["p50"] >= 100


def test_shadow_traffic_finds_what_differs(start: Start, tmp_path: Path) -> None:
    base = tmp_path / "m"
    versions(base, 1, 2)
    text = "traffic { default_version: 1 shadow { label: 'next' fraction: 1 } }"
    config = ModelConfig("m", str(base), version_policy=All(), labels={"next": 2}, options=options(text))
    server = start([config], python_options=ON)
    server.settled("m", 1)
    server.settled("m", 2)
    assert {add_of(server) for _ in range(10)} == {1.0}
    wait_until(lambda: server.metrics()['pyserving_shadow_answers_total{model_name="m",outcome="differed"}'] == 10)
    shadow = json.loads(server._fetch("/v1/models", None))["models"]["m"]["shadow"]
    assert shadow["examples"][0]["differences"] == ["output y: element [0] is 2.0, expected 1.0"]
    assert server.settled("m", 2).state is State.AVAILABLE
    assert server.server.directory.serving.is_available(ServableId("m", 1))
