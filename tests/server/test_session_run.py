"""SessionService: any tensors of the graph, over gRPC."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from running_server import RunningServer, tensor

from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig

Start = Callable[..., RunningServer]
ModelDir = Callable[[str], Path]

METHOD = "/tensorflow.serving.SessionService/SessionRun"


@pytest.fixture
def server(start: Start, model_dir: ModelDir) -> RunningServer:
    names = ("half_plus_two", "counter")
    running = start([ModelConfig(name, str(model_dir(name))) for name in names], session_service=True)
    for name in names:
        running.settled(name)
    return running


def request(
    name: str,
    fetch: list[str],
    target: list[str] | None = None,
    *,
    alias: bool = False,
    signature: str = "",
    **feeds: messages.TensorProto,
) -> messages.SessionRunRequest:
    """Feeds have ``__0`` for ``:0``."""
    made = messages.SessionRunRequest(
        model_spec=messages.ModelSpec(name=name, signature_name=signature),
        fetch=fetch,
        target=target or [],
        tensor_name_is_alias=alias,
    )
    for feed, proto in feeds.items():
        made.feed.add(name=feed.replace("__", ":"), tensor=proto)
    return made


def run(server: RunningServer, asked: messages.SessionRunRequest) -> Any:
    return server.call(METHOD, asked, messages.SessionRunResponse)


def failure(server: RunningServer, asked: messages.SessionRunRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        run(server, asked)
    return caught.value.code(), caught.value.details()


X = tensor(1.0, 2.0, shape=[2, 1])


def test_tensors_by_the_names_of_the_graph(server: RunningServer) -> None:
    """A variable too, which no signature has for an output."""
    answer = run(server, request("half_plus_two", ["y:0", "a/Read/ReadVariableOp"], x__0=X))
    assert [named.name for named in answer.tensor] == ["y:0", "a/Read/ReadVariableOp"]
    assert [list(named.tensor.float_val) for named in answer.tensor] == [[2.5, 3.0], [0.5]]
    assert answer.model_spec == messages.ModelSpec(name="half_plus_two", version=answer.model_spec.version)
    assert answer.model_spec.version.value == 123


def test_tensors_by_the_names_of_a_signature(server: RunningServer) -> None:
    answer = run(server, request("half_plus_two", ["y"], ["y"], alias=True, x=X))
    assert list(answer.tensor[0].tensor.float_val) == [2.5, 3.0]
    answer = run(server, request("counter", ["count"], alias=True, signature="add", by=tensor(4, dtype="DT_INT64")))
    assert list(answer.tensor[0].tensor.int64_val) == [5]
    assert answer.model_spec.signature_name == "add"


def test_targets_are_run_though_nothing_of_them_is_fetched(server: RunningServer) -> None:
    answer = run(server, request("counter", [], ["count"], alias=True, signature="add", by=tensor(6, dtype="DT_INT64")))
    assert not answer.tensor
    counted = run(server, request("counter", ["count"], alias=True, x=tensor(0.0)))
    assert list(counted.tensor[0].tensor.int64_val) == [7]


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (request("half_plus_two", ["nope:0"], x__0=X), "Tensor nope:0 is not in the graph"),
        (request("half_plus_two", ["y:7"], x__0=X), "Tensor y:7 is no output of its operation"),
        (request("half_plus_two", ["y:0"], nope__0=X), "Tensor nope:0 is not in the graph"),
        (request("half_plus_two", [], ["nope"], x__0=X), "Operation nope is not in the graph"),
        (request("half_plus_two", [], x__0=X), "Expected at least one tensor to fetch or target to run, got neither"),
        (request("half_plus_two", ["z"], alias=True, x=X), 'No output "z" in the signature; there are "y"'),
        (request("half_plus_two", ["y"], alias=True, z=X), 'No input "z" in the signature; there are "x"'),
        (request("counter", ["y"], alias=True, signature="no"), 'No signature "no" to find aliases in; there are'),
        (request("half_plus_two", ["y:0"]), "You must feed a value for placeholder tensor 'x'"),
        (request("half_plus_two", ["x:0"], x__0=X), "x:0 is both fed and fetched"),
        (request("half_plus_two", ["y:0"], x__0=tensor(b"1", dtype="DT_STRING")), "string"),
        (messages.SessionRunRequest(fetch=["y:0"]), "Missing ModelSpec"),
    ],
)
def test_what_cannot_be_run(server: RunningServer, asked: messages.SessionRunRequest, text: str) -> None:
    code, details = failure(server, asked)
    assert code is INVALID
    assert text in details


def test_a_tensor_that_is_fed_twice(server: RunningServer) -> None:
    asked = request("half_plus_two", ["y:0"], x__0=X)
    asked.feed.add(name="x:0", tensor=X)
    assert failure(server, asked) == (INVALID, "x:0 is fed twice")


def test_a_model_without_a_graph(start: Start, tflite_folder: Path) -> None:
    server = start([ModelConfig("lite", str(tflite_folder / "any_rank"))], session_service=True)
    server.settled("lite")
    code, details = failure(server, request("lite", ["y"], x=X))
    assert (code, details) == (grpc.StatusCode.UNIMPLEMENTED, "{name: lite version: 1} has no TensorFlow graph to run")


def test_it_is_served_only_where_asked_for(start: Start) -> None:
    server = start([])
    code, _ = failure(server, request("half_plus_two", ["y:0"], x__0=X))
    assert code is grpc.StatusCode.UNIMPLEMENTED
