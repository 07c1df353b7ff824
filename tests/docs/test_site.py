"""The documentation site: every page is in its navigation, links lead somewhere, and nothing comes from other hosts."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    DOCS.rglob("*.md")
)
ADDED = {
    *("index.md", "security.md", "contributing.md", "changelog.md", "examples/index.md"),
    *("reference/pyserving.md", "reference/tensorflow_model_server.md", "reference/python-api.md"),
}
"""Pages that scripts/docs_site.py adds."""


def pages_of(navigation: list[Any]) -> Iterator[str]:
    for entry in navigation:
        (target,) = entry.values()
        if isinstance(target, str):
            yield target
        else:
            yield from pages_of(target)


def test_every_page_is_in_the_navigation() -> None:
    listed = list(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | ADDED
    assert sorted(there - set(listed)) == [], "add these to nav in mkdocs.yml"
    assert sorted(set(listed) - there) == [], "take these out of nav in mkdocs.yml"
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^()\s#:]+)(?:#[^()\s]*)?\)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_site_is_whole_and_asks_no_other_host(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("needs the dependency group docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    loaded = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    for page in tmp_path.rglob("*.html"):
        assert [tag for tag in loaded.findall(page.read_text(encoding="utf-8")) if 'rel="canonical"' not in tag] == []
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet
    text = (tmp_path / "reference" / "tensorflow_model_server" / "index.html").read_text(encoding="utf-8")
    assert "rest_api_timeout_in_ms" in text
    assert "hedge_after" in (tmp_path / "reference" / "python-api" / "index.html").read_text(encoding="utf-8")
    assert "max_disagreement" in (tmp_path / "models-config" / "index.html").read_text(encoding="utf-8")
