"""Every block of code in every page is run, or says why it is not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("yaml")

from page_blocks import Block, read_blocks
from page_models import PREPARED, half_plus_two
from page_runner import ROOT, PageRunner
from page_server import PageServer

PAGES = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.fixture(scope="module")
def server(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], PageServer]]:
    """For pages that start none: half_plus_two, as everybody serves it. Started when it is first asked for."""
    started: list[PageServer] = []

    def start() -> PageServer:
        if not started:
            folder = tmp_path_factory.mktemp("shared")
            half_plus_two(models_folder, folder)
            started.append(PageServer(["pyserving", "serve", "models"], folder))
        return started[0]

    yield start
    for one in started:
        one.stop()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```" in page.read_text(encoding="utf-8")], ids=lambda page: page.name
)
def test_blocks_run(
    page: Path,
    server: Callable[[], PageServer],
    models_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = read_blocks(page)
    if not creates(blocks, "models/half_plus_two/1"):
        half_plus_two(models_folder, tmp_path)
    PREPARED.get(page.name, lambda _: None)(tmp_path)
    monkeypatch.chdir(tmp_path)
    runner = PageRunner(tmp_path, server, monkeypatch)
    try:
        for block in blocks:
            runner.write(block)
        for block in blocks:
            runner.run(block)
    finally:
        runner.close()


def creates(blocks: list[Block], folder: str) -> bool:
    return any(block.mark == "file" and block.value.startswith(folder) for block in blocks)
