"""What clients hear of what goes wrong between the ingress and the replicas: the ingress, with handles that fail."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from ray_nodes import PREDICT, SETTINGS

from pyserving.core.errors import Code
from pyserving.core.servable import ServableId
from pyserving.core.state import ServableState, State
from pyserving.protos import messages
from pyserving.ray.answers import RpcAnswer
from pyserving.sources.model_config import ModelConfig, config_of

pytest.importorskip("ray.serve", reason="needs the group cluster (make test-cluster)")
pytestmark = pytest.mark.cluster


class Handle:
    """Of a deployment whose methods all return, or raise, what comes next."""

    def __init__(self, *outcomes: object) -> None:
        self.http = self.rpc = self.states = self
        self._outcomes = list(outcomes)

    async def remote(self, *_: object) -> object:
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def with_ingress(handle: Handle, scene: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    from pyserving.ray.ingress import Ingress

    async def run() -> Any:
        ingress: Any = object.__new__(Ingress)
        settings = replace(SETTINGS, open_inference_protocol=True)
        await ingress.__init__(settings, config_of([ModelConfig("m", "/models/m")]).SerializeToString(), {"m": handle})
        return await scene(ingress)

    return asyncio.run(run())


def predict() -> bytes:
    return messages.PredictRequest(model_spec=messages.ModelSpec(name="m")).SerializeToString()


def rpc(handle: Handle) -> RpcAnswer:
    answer: RpcAnswer = with_ingress(handle, lambda ingress: ingress.rpc(PREDICT, predict(), ()))
    return answer


def rest(handle: Handle) -> tuple[int, str]:
    from starlette.requests import Request

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"instances": [1.0]}', "more_body": False}

    path = "/v1/models/m:predict"
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    response = with_ingress(handle, lambda ingress: ingress(Request(scope, receive)))
    return response.status_code, json.loads(response.body)["error"]


def test_what_is_a_bug_is_an_internal_error_without_a_word_on_it() -> None:
    from ray.exceptions import RayTaskError

    def bug() -> Exception:
        return RayTaskError("predict", "Traceback: secret", ValueError("secret")).as_instanceof_cause()

    answer = rpc(Handle(bug()))
    assert (answer.code, answer.details) == (Code.INTERNAL, "internal error")
    assert rest(Handle(bug())) == (500, "internal error")


def test_a_request_is_given_to_three_replicas_that_die_and_to_no_more() -> None:
    from ray.exceptions import ActorDiedError

    answered = RpcAnswer(b"answer")
    assert rpc(Handle(ActorDiedError(), ActorDiedError(), answered)) == answered
    answer = rpc(Handle(ActorDiedError(), ActorDiedError(), ActorDiedError(), answered))
    assert (answer.code, answer.details) == (
        Code.UNAVAILABLE,
        "The replica of model m that had this request was lost",
    )
    assert rest(Handle(ActorDiedError(), ActorDiedError(), ActorDiedError()))[0] == 503


def test_too_many_requests_and_a_deployment_that_failed_have_their_codes() -> None:
    from ray.serve._private.common import DeploymentID
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    full, failed = BackPressureError(5, 5), DeploymentUnavailableError(DeploymentID("model-m", "pyserving"))
    assert rpc(Handle(full)).code is Code.RESOURCE_EXHAUSTED
    assert rest(Handle(full))[0] == 429
    assert rpc(Handle(failed)).code is Code.UNAVAILABLE
    assert rest(Handle(failed))[0] == 503


def test_a_version_that_replicas_know_no_more_is_not_ready() -> None:
    def told(version: int) -> list[ServableState]:
        return [ServableState(ServableId("m", version), State.AVAILABLE, time.time())]

    async def scene(ingress: Any) -> list[set[tuple[str, str]]]:
        looks = []
        for _ in range(2):
            answer = await ingress.rpc("/inference.GRPCInferenceService/RepositoryIndex", b"", ())
            index = messages.RepositoryIndexResponse.FromString(answer.message)
            looks.append({(model.version, model.state) for model in index.models if model.state == "READY"})
        return looks

    assert with_ingress(Handle(told(1), told(2)), scene) == [{("1", "READY")}, {("2", "READY")}]


def test_the_package_hands_out_functions_however_often_it_is_asked() -> None:
    import pyserving.ray

    for _ in range(2):
        assert [getattr(pyserving.ray, name).__name__ for name in pyserving.ray.__all__] == pyserving.ray.__all__
