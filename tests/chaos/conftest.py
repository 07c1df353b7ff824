"""The table of what clients saw, printed at the end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_clients import Clients
from chaos_server import Folder

ROWS = pytest.StashKey[list[str]]()

Tell = Callable[[str, Clients], None]


@pytest.fixture
def folder(models_folder: Path, tmp_path: Path) -> Folder:
    return Folder(tmp_path, models_folder)


@pytest.fixture
def tell(pytestconfig: pytest.Config) -> Tell:
    """``tell(fault, clients)`` adds a row."""
    rows = pytestconfig.stash.setdefault(ROWS, [])

    def add(fault: str, clients: Clients) -> None:
        rows.append(f"| {fault} | {clients.seen()} | {clients.recovery()} |")

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, None):
        terminalreporter.section("what clients saw")
        terminalreporter.line("| fault | answers | recovered after |")
        terminalreporter.line("|---|---|---|")
        for row in rows:
            terminalreporter.line(row)
