"""What the console asks the server for, who may change the config, and the OpenAPI document."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_files import SCALE, write_model
from running_server import RunningServer
from waiting import wait_until

from pyserving.api.access import Role
from pyserving.server.key_file import add_key
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_policy import All

Answer = tuple[int, Any, dict[str, str]]


def ask(server: RunningServer, path: str, body: object = None, **headers: str) -> Answer:
    """Status, body (JSON where it is that) and headers."""
    data = None if body is None else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        sent.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(f"http://{server.server.ports.rest_address}{path}", data, sent)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return _answer(answer)
    except urllib.error.HTTPError as error:
        return _answer(error)


def _answer(answer: Any) -> Answer:
    text = answer.read().decode()
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    return answer.status, json.loads(text) if is_json else text, dict(answer.headers)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "scale", SCALE)
    write_model(folder, "scale", SCALE, version=2)
    write_model(folder, "broken", "raise ValueError('no such thing')")
    return folder


def configs(models: Path) -> list[ModelConfig]:
    scale = ModelConfig("scale", str(models / "scale"), version_policy=All(), labels={"stable": 1})
    return [scale, ModelConfig("broken", str(models / "broken"))]


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[RunningServer]:
    from pyserving.platforms.python.options import PythonModels, PythonOptions

    running = RunningServer(
        configs(models), console=True, open_inference_protocol=True, python_options=PythonOptions(PythonModels.ON)
    )
    for version in (1, 2):
        running.settled("scale", version)
    running.settled("broken")
    yield running
    running.stop()


def test_page_and_its_files_come_from_here_alone(server: RunningServer) -> None:
    status, page, headers = ask(server, "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "http://" not in page
    assert "https://" not in page
    assert ask(server, "/console/app.js")[2]["Content-Type"] == "text/javascript; charset=utf-8"
    assert ask(server, "/console/style.css")[0] == 200
    assert ask(server, "/console/app.js", If_None_Match=ask(server, "/console/app.js")[2]["ETag"])[0] == 304
    assert ask(server, "/console/../settings.py")[0] == 404
    assert ask(server, "/console/nothing.js")[0] == 404


def test_live_tells_models_versions_errors_and_events(server: RunningServer) -> None:
    server.post("scale:predict", {"inputs": {"x": [1.0], "add": 1.0}})
    _, live, headers = ask(server, "/console/api/live")
    assert headers["Cache-Control"] == "no-store"
    assert live["server"]["grpc_port"] > 0
    scale, broken = live["models"]
    assert (scale["name"], scale["default"], scale["labels"], scale["policy"]) == (
        "scale",
        2,
        {"stable": 1},
        "all versions",
    )
    assert [version["state"] for version in scale["versions"]] == ["AVAILABLE", "AVAILABLE"]
    (version,) = broken["versions"]
    assert version["state"] == "END"
    assert version["error"]["message"]
    assert broken["default"] is None
    assert (scale["held"], scale["manual"], scale["lazy"], scale["pinned"]) == (False, False, False, False)
    assert scale["traffic"] == {"shares": [], "key_header": "x-routing-key"}
    assert live["metrics"]["requests"]["scale"]["ok"] >= 1
    states = [event["state"] for event in live["events"] if event["model"] == "scale" and event["version"] == 1]
    assert states == ["START", "LOADING", "AVAILABLE"]
    last = max(event["when"] for event in live["events"])
    assert ask(server, f"/console/api/live?after={last}")[1]["events"] == []
    assert ask(server, "/console/api/live?after=x")[0] == 400


def test_signatures_of_a_version(server: RunningServer) -> None:
    status, answer, _ = ask(server, "/console/api/signatures?model=scale&label=stable")
    assert (status, answer["version"]) == (200, 1)
    default = next(one for one in answer["signatures"] if one["name"] == "serving_default")
    x, add = default["inputs"]
    assert x == {"name": "x", "dtype": "float", "enum": "DT_FLOAT", "shape": [None], "json": True}
    assert add["shape"] == []
    assert ask(server, "/console/api/signatures?model=scale&version=9")[0] == 404
    assert ask(server, "/console/api/signatures?model=scale&version=-1")[0] == 400
    assert ask(server, "/console/api/signatures?model=none")[0] == 404
    assert ask(server, "/console/api/signatures")[0] == 400


def test_config_is_changed_from_this_machine_alone(models: Path) -> None:
    server = RunningServer(configs(models)[:1], console=True)
    try:
        port = server.server.ports.rest_address.rpartition(":")[2]
        _, live, _ = ask(server, "/console/api/live")
        assert live["server"]["admin"]
        _, config, _ = ask(server, "/console/api/config")
        moved = config["config"].replace("value: 1", "value: 2")
        assert moved != config["config"]
        # A page elsewhere can send neither JSON nor from this origin; nor can it have its own name lead here.
        assert ask(server, "/console/api/config", {"config": moved}, Content_Type="text/plain")[0] == 400
        assert ask(server, "/console/api/config", {"config": moved}, Origin="http://evil.example")[0] == 403
        assert ask(server, "/console/api/config", {"config": moved}, Host=f"evil.example:{port}")[0] == 403
        status, wrong, _ = ask(server, "/console/api/config", {"config": "model_config_list { nonsense: 1 }"})
        assert status == 400
        assert "nonsense" in wrong["error"]
        assert ask(server, "/console/api/config", ["no"])[0] == 400
        assert ask(server, "/console/api/live")[1]["models"][0]["labels"] == {"stable": 1}
    finally:
        server.stop()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/scale:rollback",
        "/v1/models/scale:promote",
        "/v1/models/scale:aspire",
        "/v2/repository/models/scale/unload",
        "/v2/repository/models/scale/load",
        "/console/api/config",
    ],
)
def test_pages_of_other_sites_cannot_do_what_administrators_may(server: RunningServer, path: str) -> None:
    host = server.server.ports.rest_address
    port = host.rpartition(":")[2]
    simple = {"Content_Type": "text/plain"}  # what browsers send to other sites without asking first
    assert ask(server, path, {}, Origin="http://evil.example", **simple)[0] == 403
    assert ask(server, path, {}, Origin="null", **simple)[0] == 403
    named = f"evil.example:{port}"  # a name of its own that leads here
    assert ask(server, path, {}, Origin=f"http://{named}", Host=named, **simple)[0] == 403
    assert server.server.directory.serving.available("scale") == [2, 1]
    # The server's own page gets as far as any client does.
    status, answer, _ = ask(server, path, ["no object"], Origin=f"http://{host}")
    assert status == 400, answer


def test_promote_and_rollback_over_the_page_s_requests(server: RunningServer) -> None:
    origin = f"http://{server.server.ports.rest_address}"

    def shown() -> tuple[int, bool]:
        model = ask(server, "/console/api/live")[1]["models"][0]
        return model["default"], model["held"]

    assert ask(server, "/v1/models/scale:promote", {"version": 1}, Origin=origin)[0] == 200
    assert shown() == (1, True)
    # What is asked without a version is described by the version that answers.
    base = ask(server, "/openapi.json")[1]["paths"]
    assert "/v1/models/scale:predict" in base
    assert ask(server, "/v1/models/scale:promote", {}, Origin=origin)[0] == 200
    assert shown() == (2, False)


def test_config_moves_a_label(server: RunningServer) -> None:
    _, config, _ = ask(server, "/console/api/config")
    host = server.server.ports.rest_address
    moved = config["config"].replace("value: 1", "value: 2")
    status, answer, _ = ask(server, "/console/api/config", {"config": moved}, Origin=f"http://{host}")
    assert (status, answer["config"]) == (200, moved)
    _, live, _ = ask(server, "/console/api/live")
    assert live["models"][0]["labels"] == {"stable": 2}
    assert [event["text"] for event in live["events"] if not event["state"]][-1] == "label stable → 2"


def test_api_keys_tell_who_may_do_what(models: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "keys")
    reader = f"Bearer {add_key(file, 'reader', [Role.READ])}"
    admin = f"Bearer {add_key(file, 'admin', [Role.READ, Role.ADMIN])}"
    server = RunningServer(configs(models)[:1], console=True, api_keys_file=file)
    try:
        assert ask(server, "/")[0] == 200
        assert ask(server, "/console/app.js")[0] == 200
        for path in (
            "/console/api/live",
            "/console/api/signatures?model=scale",
            "/console/api/config",
            "/openapi.json",
        ):
            assert ask(server, path)[0] == 401, path
        assert not ask(server, "/console/api/live", Authorization=reader)[1]["server"]["admin"]
        assert ask(server, "/console/api/config", Authorization=reader)[0] == 403
        assert ask(server, "/console/api/live", Authorization=admin)[1]["server"]["admin"]
        _, document, _ = ask(server, "/openapi.json", Authorization=reader)
        assert document["security"] == [{"bearer": []}, {"header": []}]
        pytest.importorskip("openapi_spec_validator").OpenAPIV31SpecValidator(document).validate()
        # By a proxy, under a name of its own: the key tells enough.
        status, config, _ = ask(server, "/console/api/config", Authorization=admin, Host="models.example")
        assert status == 200
        assert ask(server, "/console/api/config", config, Authorization=reader)[0] == 403
    finally:
        server.stop()


def test_console_is_off_unless_asked_for() -> None:
    server = RunningServer([])
    try:
        assert ask(server, "/")[0] == 404
        assert ask(server, "/console/api/live")[0] == 404
        assert ask(server, "/openapi.json")[0] == 404
    finally:
        server.stop()


def test_events_follow_the_life_of_versions(tmp_path: Path) -> None:
    write_model(tmp_path, "scale", SCALE)
    from pyserving.platforms.python.options import PythonModels, PythonOptions

    server = RunningServer(
        [ModelConfig("scale", str(tmp_path / "scale"))], console=True, python_options=PythonOptions(PythonModels.ON)
    )
    try:
        server.settled("scale")
        write_model(tmp_path, "scale", SCALE, version=2)

        def events() -> list[tuple[int, str]]:
            listed = ask(server, "/console/api/live")[1]["events"]
            return [(event["version"], event["state"]) for event in listed if event["state"]]

        wait_until(lambda: (1, "END") in events())
        assert events()[-3:] == [(2, "AVAILABLE"), (1, "UNLOADING"), (1, "END")]
    finally:
        server.stop()


def test_openapi_has_rollout_and_the_open_inference_protocol(server: RunningServer) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    _, document, _ = ask(server, "/openapi.json")
    paths = document["paths"]
    assert {"/v2", "/v2/models/scale/infer", "/v2/repository/models/broken/load"} <= paths.keys()
    assert "/v2/models/broken/infer" not in paths
    assert "/v1/models/scale:aspire" not in paths  # its versions are found, not pushed
    asked = {"/v1/models/scale:promote": {}, "/v2/models/scale/infer": None, "/v2/repository/index": {}}
    for path, body in asked.items():
        operation = paths[path]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        (example,) = [one["value"] for one in content["examples"].values()]
        assert body in (None, example)
        status, answer, _ = ask(server, path, example)
        assert status == 200, (path, answer)
        for schema, value in (
            (content["schema"], example),
            (operation["responses"]["200"]["content"]["application/json"]["schema"], answer),
        ):
            jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_openapi_is_valid_and_says_what_the_server_takes(server: RunningServer) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    jsonschema = pytest.importorskip("jsonschema")
    _, document, _ = ask(server, "/openapi.json")
    assert document["openapi"] == "3.1.0"
    validator.OpenAPIV31SpecValidator(document).validate()
    paths = document["paths"]
    assert "/v1/models/scale:predict" in paths
    assert "/v1/models/scale/versions/1:predict" in paths
    assert "/v1/models/scale/labels/stable:predict" in paths
    assert "/v1/models/broken:predict" not in paths  # no version of it can answer
    assert "/v1/models/broken" in paths
    for path, item in paths.items():
        if "get" in item:
            status = ask(server, path)[0]
            assert status == (503 if path in ("/readyz", "/v2/health/ready") else 200), path

    def takes(body: object) -> bool:
        content = paths["/v1/models/scale:predict"]["post"]["requestBody"]["content"]["application/json"]
        schema = {**content["schema"], "components": document["components"]}
        return bool(jsonschema.Draft202012Validator(schema).is_valid(body))

    for body in (
        {"inputs": {"x": [1.0, 2.0], "add": 3}},
        {"signature_name": "describe", "instances": ["a", {"b64": "YQ=="}]},
        {"signature_name": "describe", "inputs": {"x": ["a"]}},
    ):
        assert takes(body), body
        assert ask(server, "/v1/models/scale:predict", body)[0] == 200, body
    for body in (
        {"inputs": {"x": ["a"], "add": 1.0}},
        {"inputs": {"x": [1.0]}},
        {"inputs": {"x": [1.0], "add": 1.0}, "instances": [1.0]},
        {"signature_name": "none", "inputs": {"x": [1.0], "add": 1.0}},
        {"signature_name": "describe", "instances": [1.0]},
    ):
        assert not takes(body), body
        assert ask(server, "/v1/models/scale:predict", body)[0] == 400, body
