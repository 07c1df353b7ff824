"""Versions from a web server that shows folders as pages of links."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from object_stores import VERSION_FILES
from waiting import wait_until

from pyserving.sources.file_system import MonitoredServable
from pyserving.sources.object_store.cache import ModelCache
from pyserving.sources.object_store.source import ObjectStoreSource
from pyserving.sources.version_folders import VersionPath

pytest.importorskip("fsspec", reason="needs the extra http")
pytest.importorskip("aiohttp", reason="needs the extra http")

pytestmark = pytest.mark.stores


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of what lies in ``tmp_path / "site"``; this server knows neither ranges nor ETags."""
    (tmp_path / "site").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_versions_are_found_by_links_and_fetched(site: str, tmp_path: Path) -> None:
    for version in ("1", "2"):
        for path, content in VERSION_FILES.items():
            target = tmp_path / "site/m" / version / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    offers: list[list[VersionPath]] = []
    source = ObjectStoreSource(
        {"m": MonitoredServable(f"{site}/m")},
        lambda _, versions: offers.append(list(versions)),
        ModelCache(str(tmp_path / "cache")),
        poll_wait_seconds=0.05,
    )
    source.start()
    try:
        wait_until(lambda: bool(offers))
        ((version, folder),) = offers[-1]
        assert version == 2
        found = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
        assert found == VERSION_FILES
    finally:
        print(source.errors)
        source.stop()
