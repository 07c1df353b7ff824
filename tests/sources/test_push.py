"""Versions that somebody names."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pyserving.core.errors import Code, ServingError
from pyserving.sources.file_system import MonitoredServable
from pyserving.sources.push import PushSource
from pyserving.sources.version_folders import VersionPath


class Pushed:
    def __init__(self, *bases: Path) -> None:
        self.calls: list[tuple[str, Sequence[VersionPath]]] = []
        self.source = PushSource(
            {base.name: MonitoredServable(str(base)) for base in bases},
            lambda name, versions: self.calls.append((name, versions)),
        )
        self.source.start()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = tmp_path.resolve() / "m"
    for name in ("1", "2", "experiments/best"):
        (base / name).mkdir(parents=True)
    return base


def test_what_is_pushed_is_aspired(base: Path) -> None:
    pushed = Pushed(base)
    assert not pushed.calls
    pushed.source.set_aspired("m", {2: "", 1: str(base / "1"), 7: "experiments/best"})
    aspired = [(1, str(base / "1")), (2, str(base / "2")), (7, str(base / "experiments/best"))]
    assert pushed.calls == [("m", aspired)]
    pushed.source.set_aspired("m", {})
    assert pushed.calls[1:] == [("m", [])]


@pytest.mark.parametrize(
    ("number", "path", "code"),
    [
        (1, "..", Code.INVALID_ARGUMENT),
        (1, "../other/1", Code.INVALID_ARGUMENT),
        (1, "/etc", Code.INVALID_ARGUMENT),
        (1, "link", Code.INVALID_ARGUMENT),
        (1, ".", Code.INVALID_ARGUMENT),
        (1, "1\0", Code.INVALID_ARGUMENT),
        (-1, "1", Code.INVALID_ARGUMENT),
        (9, "", Code.NOT_FOUND),
    ],
)
def test_a_path_that_cannot_be_changes_nothing(base: Path, number: int, path: str, code: Code) -> None:
    (base.parent / "other/1").mkdir(parents=True)
    (base / "link").symlink_to(base.parent / "other/1")
    pushed = Pushed(base)
    with pytest.raises(ServingError) as raised:
        pushed.source.set_aspired("m", {2: "", number: path})
    assert raised.value.code is code
    assert not pushed.calls


def test_what_was_pushed_outlives_a_new_config(base: Path) -> None:
    pushed = Pushed(base)
    pushed.source.set_aspired("m", {1: ""})
    other = {"other": MonitoredServable("/other")}
    pushed.source.update({"m": MonitoredServable(str(base))} | other)
    assert len(pushed.calls) == 1
    pushed.source.update(other)
    assert pushed.calls[1:] == [("m", [])]
    with pytest.raises(ServingError, match="source: PUSH"):
        pushed.source.set_aspired("m", {1: ""})


def test_a_stopped_source_calls_nobody(base: Path) -> None:
    pushed = Pushed(base)
    pushed.source.stop()
    with pytest.raises(ServingError, match="stopping"):
        pushed.source.set_aspired("m", {1: ""})
    assert not pushed.calls
