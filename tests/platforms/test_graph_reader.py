"""What is known of a graph is the same whichever process has looked through it, and a lost process costs no load."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tensorflow_models import ModelDir

from pyserving.core.background import work_in_background
from pyserving.core.errors import ServingError
from pyserving.platforms.tensorflow import graph_reader as module
from pyserving.platforms.tensorflow.graph_facts import GraphFacts, look_through
from pyserving.platforms.tensorflow.graph_reader import graph_reader
from pyserving.platforms.tensorflow.saved_model import read_meta_graph

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def folder(model_dir: ModelDir) -> Path:
    return min(model_dir("half_plus_two").iterdir())


@pytest.fixture
def meta_graph(folder: Path) -> bytes:
    serialized: bytes = read_meta_graph(str(folder), ["serve"]).SerializeToString()
    return serialized


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE_GRAPH", 0)


def in_background(call: Callable[[], Any]) -> Any:
    found: list[Any] = []

    def run() -> None:
        work_in_background()
        found.append(call())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def facts(folder: Path, meta_graph: bytes) -> GraphFacts:
    with graph_reader(str(folder)) as reader:
        return reader.facts(memoryview(meta_graph))


def not_here(_: bytes) -> NoReturn:
    raise AssertionError("this process looks through the graph")


def test_facts_tell_operations_and_whether_rows_stay_apart(meta_graph: bytes) -> None:
    found = look_through(meta_graph)
    assert list(found.signatures) == sorted(found.signatures)
    regress = found.signatures["regress_x_to_y"]
    assert regress.signature_def.method_name == "tensorflow/serving/regress"
    assert "AddV2" in regress.ops
    assert regress.ops.isdisjoint({"SaveV2", "RestoreV2"})
    assert regress.objection is None


def test_json_brings_back_all_facts(meta_graph: bytes) -> None:
    found = look_through(meta_graph)
    assert GraphFacts.from_json(found.to_json()) == found


def test_what_is_no_meta_graph_is_refused() -> None:
    with pytest.raises(ServingError, match="MetaGraphDef"):
        look_through(b"\xff\xff")


@pytest.mark.usefixtures("all_are_large")
def test_a_large_graph_of_a_load_is_looked_through_by_another_process(
    folder: Path, meta_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = look_through(meta_graph)
    monkeypatch.setattr(module, "look_through", not_here)
    assert in_background(lambda: facts(folder, meta_graph)) == expected


def test_a_small_graph_and_one_that_no_request_waits_for_need_no_process(
    folder: Path, meta_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = look_through(meta_graph)
    monkeypatch.setattr(subprocess, "Popen", not_here)
    assert in_background(lambda: facts(folder, meta_graph)) == expected
    monkeypatch.setattr(module, "LARGE_GRAPH", 0)
    assert facts(folder, meta_graph) == expected


@pytest.mark.usefixtures("all_are_large")
@pytest.mark.parametrize("program", ["/bin/false", "/no/such/program"])
def test_without_the_process_it_is_done_here(
    folder: Path, meta_graph: bytes, program: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with caplog.at_level(logging.WARNING):
        assert in_background(lambda: facts(folder, meta_graph)) == look_through(meta_graph)
    assert "process" in caplog.text


@pytest.mark.usefixtures("all_are_large")
def test_a_load_that_fails_leaves_no_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)

    def fail() -> str:
        with pytest.raises(ZeroDivisionError), graph_reader(str(folder)):
            raise ZeroDivisionError
        return "raised"

    assert in_background(fail) == "raised"
    (process,) = started
    assert process.returncode is not None
