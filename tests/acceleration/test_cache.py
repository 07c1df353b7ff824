"""Entries are whole, or not there; what was damaged is made anew."""

import fcntl
import os
from pathlib import Path

import pytest

from pyserving.acceleration.cache import Entry, digest_of_files, key_of, refuse, sweep
from pyserving.core.errors import ServingError


def written(root: Path, content: bytes = b"weights") -> Entry:
    entry = Entry(str(root), "k" * 40)
    with entry.locked(), entry.writing() as scratch:
        Path(scratch, "compiled").mkdir()
        Path(scratch, "compiled", "weights").write_bytes(content)
        Entry.write(scratch, {"engine": "openvino"})
    return entry


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert Entry(str(tmp_path), "k" * 40).read() is None
    assert written(tmp_path / "new").read() == {"engine": "openvino"}


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"files": {}, "verdict": {}}', "\x00"])
def test_a_damaged_verdict_is_none_and_is_replaced(tmp_path: Path, damage: str) -> None:
    entry = written(tmp_path)
    Path(entry.path, "verdict.json").write_text(damage)
    assert entry.read() is None
    assert written(tmp_path, b"other").read() == {"engine": "openvino"}
    assert Path(entry.path, "compiled", "weights").read_bytes() == b"other"


def test_a_damaged_artefact_is_seen(tmp_path: Path) -> None:
    entry = written(tmp_path)
    weights = Path(entry.path, "compiled", "weights")
    weights.write_bytes(b"weighty")
    assert entry.read() is None
    weights.unlink()
    assert entry.read() is None


def test_what_is_refused_is_dropped_and_stays_refused(tmp_path: Path) -> None:
    entry = written(tmp_path)
    with open(Path(entry.path, "compiled", "weights"), "rb") as in_use:
        refuse(os.path.join(entry.path, "compiled"), "it is wrong")
        assert in_use.read() == b"weights"
    assert entry.read() == {"engine": "openvino", "refusal": "it is wrong"}
    assert os.listdir(entry.path) == ["verdict.json"]
    with pytest.raises(ServingError):
        refuse(str(tmp_path / "gone" / "compiled"), "it is wrong")


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    entry = Entry(str(tmp_path), "k" * 40)
    with pytest.raises(OSError, match="full"), entry.writing():
        raise OSError("full")
    with entry.writing():
        pass  # nothing is written
    assert list(tmp_path.iterdir()) == []


def test_sweep_removes_what_nobody_writes(tmp_path: Path) -> None:
    for key in ("dead", "busy"):
        (tmp_path / f".new-{key}-x").mkdir()
    whole = written(tmp_path)
    with open(tmp_path / "busy.lock", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep(str(tmp_path))
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith(".new")) == [".new-busy-x"]
    assert whole.read()
    sweep(str(tmp_path / "none"))


def test_the_digest_is_of_names_contents_and_links(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "1", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    (elsewhere / "data").write_bytes(b"weights")
    (folder / "variables").symlink_to(elsewhere, target_is_directory=True)
    seen = {digest_of_files(str(folder))}
    (elsewhere / "data").write_bytes(b"weightz")
    seen.add(digest_of_files(str(folder)))
    (elsewhere / "data").rename(elsewhere / "more")
    seen.add(digest_of_files(str(folder)))
    assert len(seen) == 3
    assert key_of(["ab", "c"]) != key_of(["a", "bc"])
