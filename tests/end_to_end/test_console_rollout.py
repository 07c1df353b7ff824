"""The console shows how new versions are checked and requests divided, and moves them; models that sleep or crash."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_browser import PHONE, check_accessibility, needs_chromium, open_window, sync_api, watched
from google.protobuf import text_format

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
from golden_requests import golden, write_linear
from model_files import write_model
from running_server import RunningServer

from pyserving.api.access import Role
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server.key_file import add_key
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_policy import All

pytestmark = needs_chromium

ON = PythonOptions(PythonModels.ON)
FRAGILE = """
    import os
    import numpy as np
    from pyserving import Model, Tensor, signature

    class Fragile(Model):
        isolation = "process"

        def predict(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            return x

        @signature
        def crash(self, x: Tensor[np.float32, None]) -> Tensor[np.float32, None]:
            os.abort()
    """


def options(text: str) -> messages.ModelOptions:
    return text_format.Parse(text, messages.ModelOptions(), descriptor_pool=messages.POOL)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "golden").write_bytes(golden(1, 2, 3))
    for name in ("checked", "canary", "asleep"):
        write_linear(folder / name, 1)
    write_linear(folder / "canary", 2, add=5)
    write_model(folder, "fragile", FRAGILE)
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[RunningServer]:
    gate = f"""gate {{
        manual: true golden_requests: "{models / "golden"}" latency {{ median_ms: 5000 runs: 2 }}
        shadow {{ requests: 3 max_disagreement: 0 timeout_seconds: 60 }}
    }}"""
    traffic = """traffic {
        default_version: 1 split { label: "next" weight: 5 } split { weight: 95 } shadow { version: 2 fraction: 1 }
    }"""
    configs = [
        ModelConfig("checked", str(models / "checked"), version_policy=All(), options=options(gate)),
        ModelConfig(
            "canary", str(models / "canary"), version_policy=All(), labels={"next": 2}, options=options(traffic)
        ),
        ModelConfig("asleep", str(models / "asleep"), options=options("lazy: true")),
        ModelConfig("fragile", str(models / "fragile"), options=options("pinned: true")),
    ]
    running = RunningServer(
        configs,
        console=True,
        python_options=ON,
        grace_period=1,
        model_memory_budget=10**9,
        allow_labels_for_unavailable=True,
    )
    for name in ("checked", "canary", "fragile"):
        running.settled(name)
    running.settled("canary", 1)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with open_window() as page:
        yield page


@pytest.fixture
def page(window: Any, server: RunningServer) -> Iterator[Any]:
    with watched(window, server.server.ports.rest_address) as page:
        yield page


def open_model(page: Any, name: str) -> None:
    page.click(f".model-name:text-is('{name}')")
    page.wait_for_selector(f".model-head h1:has-text('{name}')")


def traffic(page: Any) -> Any:
    return page.locator("section[aria-labelledby=rollout-title]")


def confirm(page: Any, word: str) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=word).click()
    sync_api.expect(dialog).to_have_count(0)


def predict(server: RunningServer, name: str, x: float = 0.0) -> float:
    (y,) = server.post(f"{name}:predict", {"instances": [x]})["predictions"]
    return float(y)


def test_a_new_version_is_checked_waits_is_promoted_and_rolled_back(
    page: Any, server: RunningServer, models: Path
) -> None:
    open_model(page, "checked")
    area, expect = traffic(page), sync_api.expect
    expect(area).to_contain_text("go to version 1: a newer one gets them when it is promoted.")
    expect(area).to_contain_text("3 golden requests answered as expected")

    expect(area.get_by_role("button")).to_have_count(0)  # there is no other version that they could go to

    # One that answers wrongly is refused, and the page says by what.
    write_linear(models / "checked", 2, add=9)
    checks = area.locator(".checks > li", has_text="Version 2")
    expect(checks).to_contain_text("3 of 3 golden requests")
    expect(checks.locator(".chip.bad")).to_have_text("Refused")

    # A good one is compared with live requests; how far that has come is seen.
    write_linear(models / "checked", 3)
    checks = area.locator(".checks > li", has_text="Version 3")
    expect(checks).to_contain_text("0 of 3 live requests compared")
    expect(checks).to_contain_text("within the budget")
    expect(page.locator(".rows .row", has_text="Loading")).to_have_count(1)
    for number in range(3):
        predict(server, "checked", number)
    expect(checks).to_contain_text("3 live requests answered as version 1 did")
    expect(area).to_contain_text("1 newer version waits to be promoted: 3.")
    assert predict(server, "checked/versions/3") == 1.0

    area.get_by_role("button", name="Promote version 3").click()
    expect(page.get_by_role("dialog")).to_contain_text("will go to version 3")
    check_accessibility(page, "the question")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert server.server.directory.serving.default("checked") == 1
    area.get_by_role("button", name="Promote version 3").click()
    confirm(page, "Promote")
    expect(area).to_contain_text("Requests go to version 3; before to version 1.")
    expect(page.locator(".rows .row", has_text="default")).to_contain_text("3")
    assert server.server.directory.serving.default("checked") == 3

    area.get_by_role("button", name="Roll back").click()
    confirm(page, "Roll back")
    expect(area).to_contain_text("Requests go to version 1; before to version 3.")
    assert server.server.directory.serving.default("checked") == 1
    area.get_by_role("button", name="Roll back").click()
    confirm(page, "Roll back")
    expect(area.locator(".problem")).to_contain_text("Model checked has no version before 1")


def test_split_and_shadow_are_shown(page: Any, server: RunningServer) -> None:
    page.wait_for_selector(".model:has-text('canary') .tag:has-text('split')")
    open_model(page, "canary")
    area = traffic(page)
    sync_api.expect(area.locator(".shares li")).to_have_text(
        [
            "label next (version 2)5.0 %",
            "the default version (version 1)95.0 %",
        ]
    )
    for _ in range(30):
        predict(server, "canary")
    sync_api.expect(area).to_contain_text("100 % of requests are copied to version 2")
    area.get_by_text("The first that did not agree").click()
    sync_api.expect(area).to_contain_text("output y: element [0] is 5.0, expected 1.0")


def test_a_model_that_sleeps_is_loaded_when_it_is_told(page: Any, server: RunningServer) -> None:
    sync_api.expect(page.locator(".lead")).to_contain_text("1 asleep until a request needs it")
    page.wait_for_selector(".model:has-text('asleep') .chip:text-is('Asleep')")
    open_model(page, "asleep")
    sync_api.expect(page.locator(".model-head")).to_contain_text("loaded when a request needs it")
    sync_api.expect(page.locator(".rows .chip")).to_have_text(["Asleep"])
    assert server.server.directory.serving.available("asleep") == [], "who looks at the page wakes nothing"
    page.get_by_role("button", name="Load it now").click()
    page.wait_for_selector(".field")
    sync_api.expect(page.locator(".model-head")).to_contain_text("1 load for requests")
    page.get_by_label("Values of x").fill("1")
    page.get_by_role("button", name="Send").click()
    sync_api.expect(page.locator(".answer .big")).to_have_text("3")


def test_a_process_of_its_own_and_its_restarts_are_shown(page: Any) -> None:
    page.wait_for_selector(".model:has-text('fragile') .tag:text-is('pinned')")
    open_model(page, "fragile")
    row = page.locator(".rows .row:not(.head)")
    sync_api.expect(row).to_contain_text("own process")
    page.get_by_label("Signature").select_option("crash")
    page.get_by_label("Values of x").fill("1")
    page.get_by_role("button", name="Send").click()
    page.wait_for_selector(".answer .problem:has-text('Not available now')")
    sync_api.expect(row).to_contain_text("1 restart")
    sync_api.expect(row).to_contain_text("own process")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_accessibility_of_traffic(page: Any, colours: str) -> None:
    page.emulate_media(color_scheme=colours)
    try:
        check_accessibility(page, "models")
        for name in ("checked", "canary", "fragile"):
            page.evaluate("name => (location.hash = `#/model/${name}`)", name)
            page.wait_for_selector(f".model-head h1:has-text('{name}')")
            page.wait_for_selector(".field")
            check_accessibility(page, name)
    finally:
        page.emulate_media(color_scheme="light")


def test_traffic_fits_a_phone(page: Any) -> None:
    page.set_viewport_size(PHONE)
    for name in ("checked", "canary", "asleep", "fragile"):
        page.evaluate("name => (location.hash = `#/model/${name}`)", name)
        page.wait_for_selector(f".model-head h1:has-text('{name}')")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name


def test_only_administrators_see_buttons_that_move_versions(window: Any, models: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "keys")
    reader = add_key(file, "reader", [Role.READ, Role.PREDICT])
    admin = add_key(file, "admin", [Role.READ, Role.PREDICT, Role.ADMIN])
    canary = ModelConfig("canary", str(models / "canary"), version_policy=All())
    server = RunningServer([canary], console=True, python_options=ON, grace_period=1, api_keys_file=file)
    try:
        server.settled("canary", 1)
        server.settled("canary", 2)
        buttons = traffic(window).get_by_role("button")
        for key, count in ((reader, 0), (admin, 2)):
            window.goto(f"http://{server.server.ports.rest_address}/")
            window.evaluate("key => sessionStorage.setItem('pyserving-api-key', key)", key)
            window.goto("about:blank")
            window.goto(f"http://{server.server.ports.rest_address}/#/model/canary")
            sync_api.expect(traffic(window)).to_contain_text("go to version 2, the highest that is available.")
            sync_api.expect(buttons).to_have_count(count)
        buttons.get_by_text("Promote version 1").click()
        confirm(window, "Promote")
        sync_api.expect(traffic(window)).to_contain_text("go to version 1, which is kept as the default one.")
    finally:
        window.evaluate("sessionStorage.clear()")
        server.stop()


def test_the_answers_behind_it(server: RunningServer) -> None:
    """What the page reads is in ``GET /v1/models``, too, for programs."""
    listed = json.loads(server._fetch("/v1/models", None))["models"]["checked"]
    assert [(one["check"], one["outcome"]) for one in listed["gate"]["1"]] == [
        ("answers", "passed"),
        ("latency", "passed"),
    ]
