"""API keys: which roles and models they are for, what needs none, and what only the server's own machine may do."""

import json
import logging
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from model_files import SCALE, write_model
from running_server import MODEL, PREDICTION, RunningServer, predict_request, tensor
from waiting import wait_until

from pyserving.api.access import OPEN, RPC_NEEDS, Access, Role, is_local
from pyserving.cli.main import main
from pyserving.core.errors import Code, ServingError
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server import reloading
from pyserving.server.key_file import add_key, read_keys, remove_key

WAIT = 30.0
INFERENCE = "/inference.GRPCInferenceService/"
RELOAD = MODEL + "HandleReloadConfigRequest"
PREDICT_BODY = json.dumps({"inputs": {"x": [1.0, 2.0], "add": 0.0}}).encode()


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture(scope="module")
def tokens(key_file: str) -> dict[str, str]:
    return {
        "predict": add_key(key_file, "predict", [Role.PREDICT]),
        "read": add_key(key_file, "read", [Role.READ]),
        "admin": add_key(key_file, "admin", [Role.ADMIN]),
        "bound": add_key(key_file, "bound", [Role.PREDICT, Role.READ], ["sc*e", "other"]),
        "elsewhere": add_key(key_file, "elsewhere", list(Role), ["other"]),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, key_file: str, tokens: dict[str, str]) -> Iterator[RunningServer]:
    model = write_model(tmp_path_factory.mktemp("models"), "scale", SCALE)
    options = PythonOptions(PythonModels.ON)
    unix = str(tmp_path_factory.mktemp("socket") / "grpc")
    running = RunningServer(
        [model],
        api_keys_file=key_file,
        python_options=options,
        grpc_socket_path=unix,
        open_inference_protocol=True,
    )
    running.settled("scale")
    yield running
    running.stop()


def ask(server: RunningServer, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    request = urllib.request.Request(f"http://{server.server.ports.rest_address}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def call(channel: grpc.Channel, method: str, message: Any, *metadata: tuple[str, str]) -> grpc.StatusCode:
    try:
        channel.unary_unary(method)(message.SerializeToString(), timeout=WAIT, metadata=metadata)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def ask_all(server: RunningServer, headers: dict[str, str]) -> dict[str, int]:
    """The status of each kind of request."""
    return {
        "predict": ask(server, "/v1/models/scale:predict", PREDICT_BODY, **headers)[0],
        "status": ask(server, "/v1/models/scale", **headers)[0],
        "metadata": ask(server, "/v1/models/scale/metadata", **headers)[0],
        "list": ask(server, "/v1/models", **headers)[0],
        "metrics": ask(server, "/monitoring/prometheus/metrics", **headers)[0],
        "nothing": ask(server, "/nothing", **headers)[0],
        "healthz": ask(server, "/healthz", **headers)[0],
        "readyz": ask(server, "/readyz", **headers)[0],
    }


HEALTH = {"healthz": 200, "readyz": 200}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, {"predict": 401, "status": 401, "metadata": 401, "list": 401, "metrics": 401, "nothing": 401}),
        ("predict", {"predict": 200, "status": 403, "metadata": 403, "list": 403, "metrics": 403, "nothing": 403}),
        ("read", {"predict": 403, "status": 200, "metadata": 200, "list": 200, "metrics": 200, "nothing": 404}),
        ("admin", {"predict": 403, "status": 403, "metadata": 403, "list": 403, "metrics": 403, "nothing": 403}),
        ("bound", {"predict": 200, "status": 200, "metadata": 200, "list": 403, "metrics": 403, "nothing": 403}),
        ("elsewhere", {"predict": 403, "status": 403, "metadata": 403, "list": 403, "metrics": 403, "nothing": 403}),
    ],
)
def test_what_each_key_opens_over_rest(
    server: RunningServer, tokens: dict[str, str], key: str | None, expected: dict[str, int]
) -> None:
    if key is None:
        assert ask_all(server, {}) == expected | HEALTH
        assert ask_all(server, bearer("pyserving_" + "a" * 43)) == expected | HEALTH
    else:
        assert ask_all(server, bearer(tokens[key])) == expected | HEALTH
        assert ask_all(server, {"X-API-Key": tokens[key]}) == expected | HEALTH


def test_web_pages_of_other_origins_may_show_keys(
    start: Callable[..., RunningServer], key_file: str, tokens: dict[str, str]
) -> None:
    """A browser asks first, without a key, which headers it may send."""
    allowed = []
    for keys in ("", key_file):
        server = start([], api_keys_file=keys, cors=True)
        request = urllib.request.Request(
            f"http://{server.server.ports.rest_address}/v1/models/scale:predict",
            headers={"Origin": "https://shop.example", "Access-Control-Request-Headers": "authorization"},
            method="OPTIONS",
        )
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            allowed.append(answer.headers["Access-Control-Allow-Headers"])
    assert allowed == ["Content-Type", "Content-Type, Authorization, X-API-Key"]


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, None, 404),
        (None, "server.example", 404),  # no browser
        ("http://127.0.0.1:{port}", None, 404),  # the console
        ("http://localhost:{port}", "localhost:{port}", 404),
        ("http://evil.example", None, 403),
        ("null", None, 403),
        ("http://[", None, 403),
        ("http://127.0.0.1:1", None, 403),
        ("http://evil.example:{port}", "evil.example:{port}", 403),  # a name that leads here
    ],
)
def test_web_pages_of_other_sites_administer_nothing_without_a_key(
    start: Callable[..., RunningServer], origin: str | None, host: str | None, status: int
) -> None:
    server = start([], open_inference_protocol=True)
    port = str(server.server.ports.rest_address).rpartition(":")[2]
    headers = {"Content-Type": "text/plain"}
    headers |= {} if origin is None else {"Origin": origin.format(port=port)}
    headers |= {} if host is None else {"Host": host.format(port=port)}
    for path in ("/v1/models/m:promote", "/v1/models/m:rollback", "/v2/repository/models/m/unload"):
        assert ask(server, path, b"{}", **headers)[0] == status, path
    # What all may do, they may.
    assert ask(server, "/v1/models/m:predict", b'{"instances":[1]}', **headers)[0] == 404


def test_where_all_may_administer_pages_of_other_sites_may_not(start: Callable[..., RunningServer]) -> None:
    server = start([], admin_from_anywhere=True)
    for origin, status in (("http://server.example", 404), ("http://evil.example", 403)):
        headers = {"Origin": origin, "Host": "server.example"}
        assert ask(server, "/v1/models/m:promote", b"{}", **headers)[0] == status


OK, DENIED, UNKNOWN = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("key", "predict", "status", "reload"),
    [
        (None, UNKNOWN, UNKNOWN, UNKNOWN),
        ("predict", OK, DENIED, DENIED),
        ("read", DENIED, OK, DENIED),
        ("admin", DENIED, DENIED, grpc.StatusCode.INVALID_ARGUMENT),  # of an empty config: it got in
        ("bound", OK, OK, DENIED),
        ("elsewhere", DENIED, DENIED, DENIED),
    ],
)
def test_what_each_key_opens_over_grpc(
    server: RunningServer,
    tokens: dict[str, str],
    key: str | None,
    predict: grpc.StatusCode,
    status: grpc.StatusCode,
    reload: grpc.StatusCode,
) -> None:
    asked = predict_request("scale", x=tensor(1.0))
    about = messages.GetModelStatusRequest(model_spec=messages.ModelSpec(name="scale"))
    token = tokens[key] if key else "wrong"
    for address in server.server.ports.grpc_addresses:  # a key is needed over the UNIX socket, too
        for shown in (("authorization", f"bearer {token}"), ("x-api-key", token)):
            with grpc.insecure_channel(address) as channel:
                assert call(channel, PREDICTION + "Predict", asked, shown) is predict
                assert call(channel, MODEL + "GetModelStatus", about, shown) is status
                assert call(channel, RELOAD, messages.ReloadConfigRequest(), shown) is reload
                assert call(channel, "/grpc.health.v1.Health/Check", messages.HealthCheckRequest(), shown) is OK


def test_a_key_for_certain_models_by_every_method_that_names_one(server: RunningServer, tokens: dict[str, str]) -> None:
    spec = messages.ModelSpec(name="scale")
    requests = {
        PREDICTION + "Predict": messages.PredictRequest(model_spec=spec),
        PREDICTION + "Classify": messages.ClassificationRequest(model_spec=spec),
        PREDICTION + "Regress": messages.RegressionRequest(model_spec=spec),
        PREDICTION + "MultiInference": messages.MultiInferenceRequest(tasks=[messages.InferenceTask(model_spec=spec)]),
        PREDICTION + "PredictStreamed": messages.PredictRequest(model_spec=spec),
        PREDICTION + "GetModelMetadata": messages.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        ),
        MODEL + "GetModelStatus": messages.GetModelStatusRequest(model_spec=spec),
        INFERENCE + "ModelInfer": messages.ModelInferRequest(model_name="scale"),
        INFERENCE + "ModelReady": messages.ModelReadyRequest(name="scale"),
        INFERENCE + "ModelMetadata": messages.ModelMetadataRequest(name="scale"),
        INFERENCE + "ModelConfig": messages.ModelConfigRequest(name="scale"),
        INFERENCE + "ModelStatistics": messages.ModelStatisticsRequest(name="scale"),
    }
    streamed = INFERENCE + "ModelStreamInfer"  # tells of errors in its messages; see the test below
    session = "/tensorflow.serving.SessionService/SessionRun"  # not served here; see the test of all methods
    assert requests.keys() == {name for name, need in RPC_NEEDS.items() if need.names_model} - {session, streamed}
    with grpc.insecure_channel(server.server.ports.grpc_addresses[0]) as channel:
        for method, request in requests.items():
            assert call(channel, method, request, ("x-api-key", tokens["elsewhere"])) is DENIED, method
            if method != PREDICTION + "PredictStreamed":  # of which the first message is no answer to a unary call
                assert call(channel, method, request, ("x-api-key", tokens["bound"])) is not DENIED, method


def test_a_key_for_certain_models_in_a_stream(server: RunningServer, tokens: dict[str, str]) -> None:
    with grpc.insecure_channel(server.server.ports.grpc_addresses[0]) as channel:
        method = channel.stream_stream(
            INFERENCE + "ModelStreamInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelStreamInferResponse.FromString,
        )
        asked = [messages.ModelInferRequest(model_name="scale")]
        (answer,) = method(iter(asked), timeout=WAIT, metadata=[("x-api-key", tokens["elsewhere"])])
        assert answer.error_message == "The API key elsewhere is not for the model scale"


@pytest.mark.parametrize(
    ("key", "expected"),
    [("predict", [200, 401, 403, 403]), ("read", [200, 403, 200, 200]), ("elsewhere", [200, 403, 403, 403])],
)
def test_what_each_key_opens_of_the_open_inference_protocol(
    server: RunningServer, tokens: dict[str, str], key: str, expected: list[int]
) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    body = json.dumps({"inputs": [x]}).encode()
    shown = bearer(tokens[key])
    infer = "/v2/models/scale/infer"
    assert [
        ask(server, "/v2/health/live")[0],
        ask(server, infer, body, **({} if key == "predict" else shown))[0],
        ask(server, "/v2/models/scale", **shown)[0],
        ask(server, "/v2/repository/index", b"", **shown)[0],
    ] == expected
    assert (ask(server, infer, body, **shown)[0] == 200) == (key == "predict")


def test_default_versions_are_moved_by_administrators_only(server: RunningServer, tokens: dict[str, str]) -> None:
    for key, expected in {"admin": 200, "predict": 403, "read": 403, "bound": 403, "elsewhere": 403}.items():
        assert ask(server, "/v1/models/scale:promote", b"{}", **bearer(tokens[key]))[0] == expected, key
        request = messages.PromoteRequest(model="scale")
        code = call(server.channel, "/pyserving.RolloutService/Promote", request, ("x-api-key", tokens[key]))
        assert (code is DENIED) == (expected == 403), key
    assert ask(server, "/v1/models/scale:rollback", b"{}")[0] == 401


def test_401_says_how(server: RunningServer) -> None:
    status, body, headers = ask(server, "/v1/models/scale")
    assert status == 401
    assert headers["WWW-Authenticate"] == 'Bearer realm="pyserving"'
    assert "Authorization: Bearer" in json.loads(body)["error"]


def test_who_has_no_key_is_refused_before_the_body(server: RunningServer) -> None:
    host, _, port = server.server.ports.rest_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT) as client:
        client.sendall(
            b"POST /v1/models/scale:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 400000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 401 Unauthorized\r\n")


def test_a_token_is_not_taken_for_a_part_of_it(server: RunningServer, tokens: dict[str, str]) -> None:
    token = tokens["read"]
    for wrong in (token[:-1], token + "a", token.swapcase(), f"{token},{token}", "", "sha256:" + "0" * 64):
        assert ask(server, "/v1/models/scale", **bearer(wrong))[0] == 401
    assert ask(server, "/v1/models/scale", Authorization=f"Basic {token}")[0] == 401


def test_keys_come_and_go_without_a_restart(
    server: RunningServer, key_file: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reloading, "LOOK_SECONDS", 0.02)
    token = add_key(key_file, "passing", [Role.READ])
    wait_until(lambda: ask(server, "/v1/models/scale", **bearer(token))[0] == 200)
    kept = Path(key_file).read_text()
    with caplog.at_level(logging.ERROR):
        Path(key_file).write_text("nonsense\n")
        wait_until(lambda: "what was read before stays" in caplog.text)
    assert "line 1: expected: name role" in caplog.text
    assert ask(server, "/v1/models/scale", **bearer(token))[0] == 200
    Path(key_file).write_text(kept)
    remove_key(key_file, "passing")
    wait_until(lambda: ask(server, "/v1/models/scale", **bearer(token))[0] == 401)


def test_refusals_are_counted(server: RunningServer, tokens: dict[str, str]) -> None:
    def counted(code: str) -> float:
        page = ask(server, "/monitoring/prometheus/metrics", **bearer(tokens["read"]))[1].decode()
        (line,) = (
            line
            for line in page.splitlines()
            if line.startswith("pyserving_unauthorized_requests_total") and code in line
        )
        return float(line.rsplit(" ", 1)[1])

    before = {code: counted(code) for code in ("UNAUTHENTICATED", "PERMISSION_DENIED")}
    ask(server, "/v1/models/scale")
    ask(server, "/v1/models/scale", **bearer(tokens["predict"]))
    assert {code: counted(code) - count for code, count in before.items()} == {
        "UNAUTHENTICATED": 1,
        "PERMISSION_DENIED": 1,
    }


def test_metrics_can_be_open(start: Callable[..., RunningServer], key_file: str, tokens: dict[str, str]) -> None:
    server = start([], api_keys_file=key_file, open_metrics=True)
    assert ask(server, "/monitoring/prometheus/metrics")[0] == 200
    assert ask(server, "/v1/models")[0] == 401


STRANGER = ("192.0.2.1", 1234)


def test_without_keys_only_this_machine_may_administrate() -> None:
    access = Access(None)
    for local in (("127.0.0.1", 1), ("::1", 1, 0, 0), ("::ffff:127.9.9.9", 1, 0, 0), "", "/run/x", None):
        assert access.rpc_guard(local) is None
    for peer in (STRANGER, ("::ffff:192.0.2.1", 1, 0, 0), ("fe80::1%eth0", 1, 0, 2)):
        guard = access.rpc_guard(peer)
        assert guard is not None
        for method, need in RPC_NEEDS.items():
            if need.role is not Role.ADMIN:
                assert guard(method, {}) is None
        for method in (RELOAD, "/pyserving.Something/New"):
            with pytest.raises(ServingError) as refused:
                guard(method, {})
            assert refused.value.code is Code.PERMISSION_DENIED
    assert access.refused["PERMISSION_DENIED"] == 6
    assert Access(None, admin_from_anywhere=True).rpc_guard(STRANGER) is None


def test_a_stranger_may_not_reload_by_a_real_connection(
    start: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyserving.api.access.is_local", lambda _: False)
    server = start([])
    assert call(server.channel, RELOAD, messages.ReloadConfigRequest()) is DENIED
    assert call(server.channel, "/grpc.health.v1.Health/Check", messages.HealthCheckRequest()) is OK
    assert ask(server, "/v1/models")[0] == 200


def test_every_method_that_is_served_says_what_it_needs(server: RunningServer) -> None:
    """What does not would need the role admin, which may not be what was meant."""
    front = server.server._front
    assert front.served_methods - RPC_NEEDS.keys() == set()


def test_what_is_local() -> None:
    assert not is_local(STRANGER)
    assert is_local(("127.0.0.2", 1))


# The file, and the command that writes it


def test_the_file_holds_no_token_and_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    token = add_key(str(path), "ci", [Role.PREDICT, Role.READ], ["a*"])
    assert token not in path.read_text()
    assert len(token) >= 43
    assert os.stat(path).st_mode & 0o777 == 0o600
    (key,) = read_keys(str(path)).values()
    assert (key.name, key.roles, list(key.models)) == ("ci", {Role.PREDICT, Role.READ}, ["a*"])


def test_a_file_that_is_a_link_stays_one_and_keeps_its_mode(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("# ours\n\n")
    real.chmod(0o640)
    link.symlink_to(real)
    add_key(str(link), "a", [Role.READ])
    remove_key(str(link), "a")
    assert link.is_symlink()
    assert real.read_text() == "# ours\n\n"
    assert os.stat(real).st_mode & 0o777 == 0o640


HASH = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a read", "expected: name"),
        (f"a/b read {HASH}", "expected a name"),
        (f"a root {HASH}", "expected roles of predict, read, admin"),
        (f"a read,, {HASH}", "expected roles"),
        ("a read 1234", "64 hexadecimal digits"),
        (f"a read {HASH} model=x", "expected models="),
        (f"a read {HASH} models=", "expected models="),
        (f"a read {HASH}\na read sha256:{'1' * 64}", "line 2: there is a key of this name"),
        (f"a read {HASH}\nb read {HASH}", "line 2: there is a key of this name or hash"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ServingError, match="line ") as caught:
        read_keys(str(path))
    assert fault in caught.value.message


def test_the_command(tmp_path: Path) -> None:
    path = str(tmp_path / "keys")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["keys", *arguments])

    added = run("add", path, "--name", "ci", "--role", "predict", "--role", "read", "--model", "m*")
    assert added.exit_code == 0, added.output
    token = added.stdout.strip()
    assert token.startswith("pyserving_")
    assert run("list", path).stdout == "ci  predict,read  m*\n"
    told = json.loads(run("list", path, "--json").stdout)
    assert told == {"keys": [{"name": "ci", "roles": ["predict", "read"], "models": ["m*"]}]}
    other = json.loads(run("add", path, "--name", "cd", "--role", "admin", "--json").stdout)
    assert other["name"] == "cd"
    assert other["token"].startswith("pyserving_")
    assert run("remove", path, "--name", "cd").exit_code == 0
    again = run("add", path, "--name", "ci", "--role", "admin")
    assert (again.exit_code, again.stdout) == (1, "")
    for unfit, told_of in (
        (("--name", "two words"), "expected a name of up to 64 letters, digits and ._@-, got 'two words'"),
        (("--name", "x", "--model", "a b"), "expected patterns of models without blanks and commas, got 'a b'"),
    ):
        refused = run("add", path, "--role", "admin", *unfit)
        assert (refused.exit_code, told_of in refused.stderr) == (1, True), refused.stderr
    assert run("remove", path, "--name", "no").exit_code == 1
    assert run("remove", path, "--name", "ci").exit_code == 0
    assert run("list", path).stdout == ""
    assert run("list", path + "x").exit_code == 1


def test_health_is_open() -> None:
    assert RPC_NEEDS["/grpc.health.v1.Health/Check"] is OPEN


@pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fpasswd", "%2Fetc", "..", "scale%2F1", "scale%00", "%2e%2e%5c"])
def test_a_name_never_becomes_a_path(server: RunningServer, tokens: dict[str, str], name: str) -> None:
    """It is looked up among the models that are configured, and that is all."""
    for path in (f"/v1/models/{name}", f"/v1/models/{name}/metadata", f"/v1/models/scale/labels/{name}"):
        assert ask(server, path, **bearer(tokens["read"]))[0] in (400, 404)
