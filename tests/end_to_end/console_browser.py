"""A real browser for tests of the console.

With a folder in the environment variable CONSOLE_PICTURES each test leaves a picture there of what it saw last.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from waiting import LIMIT

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

sync_api.expect.set_options(timeout=LIMIT * 1000)

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@contextmanager
def open_window() -> Iterator[Any]:
    """One page for all tests of a module: what Chromium does for a new one takes longer than most of them."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        context = browser.new_context(viewport=DESKTOP)
        context.route("**/console/live.js", _ask_more_often)
        page = context.new_page()
        page.set_default_timeout(LIMIT * 1000)
        yield page
        browser.close()


def _ask_more_often(route: Any) -> None:
    """Ten times a second instead of once: most of the time tests would wait for the next look at the server."""
    answer = route.fetch()
    text = answer.text()
    assert "const WAIT = 1000;" in text
    route.fulfill(response=answer, body=text.replace("const WAIT = 1000;", "const WAIT = 100;"))


@contextmanager
def watched(window: Any, address: str) -> Iterator[Any]:
    """The console at ``address``, just opened. Nothing may fail in its scripts."""
    failures: list[str] = []

    def note(error: object) -> None:
        failures.append(str(error))

    window.on("pageerror", note)
    window.set_viewport_size(DESKTOP)
    window.goto("about:blank")
    window.goto(f"http://{address}/")
    window.wait_for_selector(".model")
    yield window
    if folder := os.environ.get("CONSOLE_PICTURES"):
        name = os.environ["PYTEST_CURRENT_TEST"].rpartition("::")[2].partition(" ")[0].replace("/", "-")
        window.evaluate("scrollTo(0, 0)")
        window.screenshot(path=os.path.join(folder, f"{name}.png"), full_page=True)
    window.remove_listener("pageerror", note)
    assert failures == []


def check_accessibility(page: Any, place: str) -> None:
    results = axe.Axe().run(page)
    assert results.violations_count == 0, f"{place}: {results.generate_report()}"
