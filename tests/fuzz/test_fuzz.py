"""Damaged input of every kind: no exception, no error in the log, no hang, and no 5xx or INTERNAL for what is the
client's fault.

``FUZZ_SEED`` and ``FUZZ_INPUTS`` choose other inputs for the long run, and how many.
"""

import os
from collections.abc import Iterator

import pytest
from fuzzed_server import TARGETS, FuzzedServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzedServer]:
    running = FuzzedServer(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_input(server: FuzzedServer, target: str) -> None:
    outcomes = server.fuzz(TARGETS[target](), 1500, seed=1)
    assert len(outcomes) > 1, outcomes  # some were good enough, some were not


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_much_damaged_input(server: FuzzedServer, target: str) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "2"))
    print(server.fuzz(TARGETS[target](), int(os.environ.get("FUZZ_INPUTS", "500000")), seed))
