"""The web console, clicked through by a real browser."""

import io
import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console_browser import PHONE, check_accessibility, needs_chromium, open_window, sync_api, watched
from console_models import NUMBERS, digits, write_digits
from google.protobuf import json_format

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
from model_files import write_model
from running_server import PREDICTION, RunningServer

from benchmarks.running import free_port
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_policy import All

image_module = pytest.importorskip("PIL.Image", reason="needs Pillow")

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_digits(folder / "digits" / "1")
    shutil.copytree(folder / "digits", folder / "swapped")
    write_model(folder, "numbers", NUMBERS)
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "model.onnx").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[RunningServer]:
    names = ("broken", "digits", "numbers")
    configs = [ModelConfig(name, str(models / name)) for name in names]
    configs.append(ModelConfig("swapped", str(models / "swapped"), version_policy=All()))
    running = RunningServer(configs, console=True, python_options=PythonOptions(PythonModels.ON), grace_period=1)
    for name in (*names, "swapped"):
        running.settled(name)
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
    window.unroute_all()


def open_model(page: Any, name: str) -> None:
    page.click(f".model-name:text-is('{name}')")
    page.wait_for_selector(".field")


def choose_signature(page: Any, name: str) -> None:
    page.get_by_label("Signature").select_option(name)


def send(page: Any) -> None:
    page.get_by_role("button", name="Send").click()


def first_bar(page: Any) -> str:
    page.wait_for_selector(".bars .first")
    name: str = page.locator(".bars .first .bar-name").inner_text()
    return name


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    image_module.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def a_digit(server: RunningServer) -> tuple[bytes, int]:
    """The picture of a digit, 112 by 112 in colour, and which one the model takes it for."""
    _, others = digits()
    for image, label in zip(others.images, others.labels, strict=True):
        answer = server.post("digits:predict", {"instances": [image.tolist()]})["predictions"][0]
        if int(np.argmax(answer)) == label and max(answer) > 0.9:
            small = image_module.fromarray((image[..., 0] * 255).astype(np.uint8))
            return png(np.array(small.resize((112, 112)).convert("RGB"))), int(label)
    raise AssertionError("the model knows no digit")


def test_a_picture_that_is_dropped_is_classified(page: Any, server: RunningServer) -> None:
    picture, digit = a_digit(server)
    open_model(page, "digits")
    page.get_by_role("button", name="Picture").click()
    transfer = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "digit.png", { type: "image/png" }));
            return transfer;
        }""",
        list(picture),
    )
    page.dispatch_event(".drop-area", "drop", {"dataTransfer": transfer})
    page.wait_for_selector(".preview canvas")
    send(page)
    assert first_bar(page) == str(digit)
    assert "112 × 112" in page.locator(".drop-name").inner_text()
    # The same with names of classes, and inverted: then it is hardly the same digit, but an answer all the same.
    page.click("summary:has-text('Class names')")
    page.get_by_label("One name in a line").fill("\n".join(f"digit {i}" for i in range(10)))
    assert first_bar(page).startswith(f"digit {digit}")
    page.get_by_label("One name in a line").fill("")


def test_a_picture_that_is_chosen_is_classified(page: Any, server: RunningServer) -> None:
    picture, digit = a_digit(server)
    open_model(page, "digits")
    page.get_by_role("button", name="Picture").click()
    page.set_input_files(".field input[type=file]", {"name": "d.png", "mimeType": "image/png", "buffer": picture})
    page.wait_for_selector(".preview canvas")
    send(page)
    assert first_bar(page) == str(digit)


def test_a_digit_that_is_drawn_is_classified(page: Any) -> None:
    open_model(page, "digits")
    page.locator(".paper").scroll_into_view_if_needed()
    box = page.locator(".paper").bounding_box()
    points = [(0.3, 0.25), (0.7, 0.25), (0.45, 0.8)]
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    send(page)
    assert first_bar(page) == "7"


def test_an_empty_paper_is_not_sent(page: Any) -> None:
    open_model(page, "digits")
    send(page)
    assert "Nothing is drawn yet." in page.locator("form > .problem").inner_text()


def broken_png(width: int, height: int) -> bytes:
    """The head of a PNG of that size, and not much more."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


@pytest.mark.parametrize(
    ("name", "kind", "data", "words"),
    [
        ("notes.txt", "text/plain", b"no picture", "notes.txt is not a picture (it is text/plain)"),
        ("cut.png", "image/png", broken_png(10, 10), "cut.png cannot be read as a picture"),
        ("huge.png", "image/png", broken_png(60_000, 60_000), "huge.png is huge: 60000 × 60000 pixels"),
    ],
)
def test_a_file_that_is_no_usable_picture(page: Any, name: str, kind: str, data: bytes, words: str) -> None:
    open_model(page, "digits")
    page.get_by_role("button", name="Picture").click()
    page.set_input_files(".field input[type=file]", {"name": name, "mimeType": kind, "buffer": data})
    page.wait_for_selector(".image-field .problem:not([hidden])")
    assert words in page.locator(".image-field .problem").inner_text()
    send(page)
    assert "Choose a picture" in page.locator("form > .problem").inner_text()


def test_a_file_that_is_too_large(page: Any, tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(65_000_000)
    open_model(page, "digits")
    page.get_by_role("button", name="Picture").click()
    page.set_input_files(".field input[type=file]", tmp_path / "large.png")
    page.wait_for_selector(".image-field .problem:not([hidden])")
    assert "large.png has 65 MB; this form takes" in page.locator(".image-field .problem").inner_text()


def test_the_server_s_error_is_shown(page: Any) -> None:
    open_model(page, "numbers")
    page.get_by_label("Values of x").fill("-1, 2")
    send(page)
    page.wait_for_selector(".answer .problem")
    assert page.locator(".answer .problem").inner_text().splitlines() == [
        "The request was refused",
        "x must not be negative",
    ]
    page.get_by_label("Values of x").fill("1 2")
    send(page)
    page.wait_for_selector(".answer .values, .answer .bars")


def test_values_are_checked_against_the_dtype(page: Any) -> None:
    open_model(page, "numbers")
    page.get_by_label("Values of x").fill("1, two")
    send(page)
    assert "expected numbers, got two" in page.locator("form > .problem").inner_text()
    page.get_by_label("Values of x").fill("1")
    page.get_by_label("Values of add").fill("1 2")
    send(page)
    assert "expected 1 value, got 2" in page.locator("form > .problem").inner_text()


def test_a_dtype_that_the_form_cannot_make(page: Any) -> None:
    open_model(page, "numbers")
    choose_signature(page, "spectrum")
    assert "JSON cannot carry complex64" in page.locator(".field .problem").inner_text()
    send(page)
    assert "JSON cannot carry complex64" in page.locator("form > .problem").inner_text()


def test_texts_and_a_picture_of_any_size(page: Any) -> None:
    open_model(page, "numbers")
    choose_signature(page, "words")
    page.get_by_label("Text of text").fill("größe\ntwo")
    page.get_by_label("Each line is a text of its own").check()
    send(page)
    page.wait_for_selector(".answer table")
    assert page.locator(".answer tbody tr").all_inner_texts() == ["1\tGRÖSSE\t5", "2\tTWO\t3"]
    choose_signature(page, "brightness")
    grey = np.full((40, 60, 3), 100, np.uint8)
    page.set_input_files(".field input[type=file]", {"name": "g.png", "mimeType": "image/png", "buffer": png(grey)})
    page.get_by_label("Width").fill("33")
    page.get_by_label("Height").fill("21")
    page.wait_for_selector("text=The model sees 33 × 21")
    send(page)
    page.wait_for_selector(".answer .big")
    assert page.locator(".answer .big").inner_text() == "100"


def test_the_request_elsewhere_asks_the_same(page: Any, server: RunningServer) -> None:
    open_model(page, "numbers")
    page.get_by_label("Values of x").fill("1, 2")
    send(page)
    page.wait_for_selector(".answer-head")
    page.click("summary:has-text('Use this request elsewhere')")
    code = page.get_by_label("Command")
    if shutil.which("curl"):
        answer = subprocess.run(["bash", "-c", code.inner_text() + " -s"], capture_output=True, timeout=30, check=True)
        assert json.loads(answer.stdout) == {"outputs": [3, 5]}
    page.get_by_role("button", name="Python").click()
    answer = subprocess.run([sys.executable, "-c", code.inner_text()], capture_output=True, timeout=30, check=True)
    assert answer.stdout.decode().strip() == "{'outputs': [3.0, 5.0]}"
    page.get_by_role("button", name="grpcurl").click()
    text = code.inner_text()
    assert server.server.ports.grpc_addresses[0] in text
    body = text[text.index("'") + 1 : text.rindex("'")]
    request = json_format.Parse(body, messages.PredictRequest(), descriptor_pool=messages.POOL)
    response = server.call(PREDICTION + "Predict", request, messages.PredictResponse)
    assert list(response.outputs["output_0"].float_val) == [3, 5]


def test_versions_come_and_go_without_a_reload(page: Any, server: RunningServer, models: Path) -> None:
    open_model(page, "swapped")
    page.evaluate("window.sameDocument = true")
    shutil.copytree(models / "digits" / "1", models / "swapped" / ".2")
    (models / "swapped" / ".2").rename(models / "swapped" / "2")
    page.wait_for_selector(".rows .row:has-text('2'):has-text('Available')")
    page.wait_for_selector("text=Version 2 answers now.")
    page.wait_for_selector(".events li:has-text('version 2'):has-text('Available')")

    page.get_by_label("Version", exact=True).select_option("version 1")
    shutil.rmtree(models / "swapped" / "1")
    page.wait_for_selector("text=Version 1 is not served any more.")
    page.get_by_role("button", name="Request as JSON").click()
    send(page)
    page.wait_for_selector(".answer .problem")
    assert page.locator(".answer .problem").inner_text().startswith("Not found\nServable not found for request")
    page.get_by_role("button", name="Use the default version").click()
    page.wait_for_selector(".notice", state="hidden")
    assert page.get_by_label("Version", exact=True).input_value() == ""
    assert page.evaluate("window.sameDocument") is True


def test_a_failed_model_says_why(page: Any) -> None:
    assert "is no ONNX model" in page.locator(".model:has-text('broken')").inner_text()
    page.click(".tabs >> text=Events")
    page.get_by_label("Show").select_option("errors")
    page.wait_for_selector(".events li:has-text('broken'):has-text('is no ONNX model')")
    assert page.locator(".events li").count() == 1


def test_metrics_show_what_was_asked(page: Any, server: RunningServer) -> None:
    page.click(".tabs >> text=Metrics")
    page.wait_for_selector(".tile")
    for _ in range(20):
        server.post("numbers:predict", {"inputs": {"x": [1.0], "add": 1.0}})
    assert page.locator(".chart .tick:text-is('0')").count() == page.locator(".chart").count()
    rate = page.locator(".tile:has-text('Requests') dd")
    sync_api.expect(rate).not_to_have_text("0/s")
    page.wait_for_selector(".chart[aria-label*='Latency: p50 ']:not([aria-label*='p50 –'])")
    page.get_by_label("Model").select_option("digits")
    sync_api.expect(rate).to_have_text("0/s")


def test_the_interface_can_be_tried(page: Any) -> None:
    page.click(".tabs >> text=API")
    page.click(".operation summary:has(code:text-is('/v1/models/digits'))")
    operation = page.locator(".operation[open]")
    operation.get_by_role("button", name="Send").click()
    page.wait_for_selector(".operation[open] pre:has-text('\"AVAILABLE\"')")
    page.click(".operation summary:has(code:text-is('/v1/models/numbers:predict'))")
    predict = page.locator("#op-predict_numbers")
    sync_api.expect(predict).to_contain_text('"x": float [?]')
    predict.get_by_label("Body", exact=True).fill('{"inputs": {"x": [-1], "add": 0}}')
    predict.get_by_role("button", name="Send").click()
    page.wait_for_selector("#op-predict_numbers pre:has-text('(400): x must not be negative')")


def test_the_config_can_be_changed(page: Any) -> None:
    page.click(".tabs >> text=Config")
    area = page.get_by_label("ModelServerConfig")
    sync_api.expect(area).to_have_value(re.compile("digits"))
    text = area.input_value()
    area.fill(text.replace('name: "digits"', 'name: "digits" nonsense: 1'))
    page.get_by_role("button", name="Apply").click()
    page.wait_for_selector(".problem:has-text('nonsense')")
    area.fill(text.replace('name: "digits"', 'name: "digits" version_labels { key: "stable" value: 1 }'))
    page.get_by_role("button", name="Apply").click()
    page.wait_for_selector(".notice:has-text('Applied.')")
    page.click(".tabs >> text=Models")
    page.wait_for_selector(".model:has-text('stable → 1')")


def test_a_server_that_goes_and_comes_back(window: Any, models: Path) -> None:
    configs = [ModelConfig("numbers", str(models / "numbers"))]
    settings: dict[str, Any] = {"console": True, "python_options": PythonOptions(PythonModels.ON), "grace_period": 1}
    port = free_port()  # which nobody else gets while the server is away
    server = RunningServer(configs, rest_port=port, **settings)
    server.settled("numbers")
    try:
        window.goto(f"http://127.0.0.1:{port}/")
        open_model(window, "numbers")
        window.get_by_label("Values of x").fill("1, 2")
        server.stop()
        send(window)
        window.wait_for_selector(".answer .problem")
        assert window.locator(".answer .problem").inner_text().startswith("The server does not answer")
        window.wait_for_selector("#banner:has-text('The server does not answer')")
        assert window.locator("#status").inner_text() == "Not reachable"
        server = RunningServer(configs, rest_port=port, **settings)
        server.settled("numbers")
        window.wait_for_selector("#banner", state="hidden")
        assert window.locator("#status").inner_text() == "Live"
        send(window)  # what was filled in is still there
        window.wait_for_selector(".answer .values, .answer .bars")
    finally:
        server.stop()


def test_an_api_key_is_asked_for_and_sent(page: Any) -> None:
    def refuse(route: Any) -> None:
        """In the place of a server that wants keys: it knows two."""
        key = route.request.headers.get("authorization")
        if key == "Bearer good":
            route.continue_()
        else:
            route.fulfill(status=403 if key else 401, content_type="application/json", body='{"error": "no key"}')

    page.route("**/console/api/live?*", refuse)
    for key, title in (("weak", "An API key is needed"), ("good", "Not allowed")):
        page.wait_for_selector(f"#banner:has-text('{title}')")
        page.get_by_role("button", name="Set the API key").click()
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_role("button", name="Use it").click()
    page.wait_for_selector("#banner", state="hidden")
    assert page.evaluate("Object.values(sessionStorage)") == ["good"]
    page.evaluate("sessionStorage.clear()")


PLACES = ("", "model/digits", "model/numbers", "metrics", "events", "api", "config")


def show(page: Any, place: str) -> None:
    page.evaluate("place => (location.hash = `#/${place}`)", place)
    marks = {"": ".model", "metrics": ".tile", "events": ".events", "api": ".operation", "config": "textarea"}
    page.wait_for_selector(marks.get(place, ".field"))
    if place.startswith("model/"):
        send(page)
    if place == "api":
        page.click(".operation summary >> nth=0")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_accessibility(page: Any, colours: str) -> None:
    page.emulate_media(color_scheme=colours)
    try:
        for place in PLACES:
            show(page, place)
            check_accessibility(page, place)
    finally:
        page.emulate_media(color_scheme="light")


def test_nothing_is_wider_than_a_phone(page: Any) -> None:
    page.set_viewport_size(PHONE)
    for place in PLACES:
        show(page, place)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], place
    assert page.evaluate("(tabs => tabs.scrollWidth <= tabs.clientWidth)(document.getElementById('tabs'))")


def test_colours_can_be_switched(page: Any) -> None:
    button = page.locator("#theme")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    button.click()
    assert button.get_attribute("aria-label") == "Colours: light"
    button.click()
    assert button.get_attribute("aria-label") == "Colours: dark"
    assert page.evaluate(ground) != light
    button.click()
    assert page.evaluate(ground) == light
