"""When a version folder counts as arrived, with real files."""

import os
import shutil
import time
from pathlib import Path

import pytest

from pyserving.sources.settling import SettlingFolder, look_into


def saved_model(folder: Path, shards: int = 2) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    for shard in range(shards):
        (folder / "variables" / f"variables.data-{shard:05d}-of-{shards:05d}").write_bytes(b"v")
    (folder / "variables" / "variables.index").write_bytes(b"i")
    return folder


def polls_until_ready(folder: SettlingFolder, most: int = 2000) -> int:
    return next(poll for poll in range(1, most) if folder.is_ready())


@pytest.mark.usefixtures("at_rest_at_once")
def test_a_whole_folder_at_rest_is_ready_at_once(tmp_path: Path) -> None:
    assert polls_until_ready(SettlingFolder(str(saved_model(tmp_path / "1")), at_first_look=False)) == 1


def test_a_whole_folder_just_written_is_ready_at_the_next_poll(tmp_path: Path) -> None:
    for at_first_look in (False, True):
        folder = saved_model(tmp_path / str(at_first_look))
        assert polls_until_ready(SettlingFolder(str(folder), at_first_look=at_first_look)) == 2


def test_a_time_in_the_future_is_not_at_rest(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "1")
    future = time.time() + 1e6
    os.utime(folder / "saved_model.pb", (future, future))
    assert polls_until_ready(SettlingFolder(str(folder), at_first_look=False)) == 2


def test_modification_times_set_back_by_a_copier_do_not_deceive(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "1")
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (1e9, 1e9))
    assert not look_into(str(folder)).is_at_rest()


def test_a_rename_does_not_count_as_a_change(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "1")
    before = look_into(str(folder))
    folder.rename(tmp_path / "2")
    assert look_into(str(tmp_path / "2")) == before


def test_every_change_starts_the_wait_again(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "1")
    big = folder / "variables" / "variables.data-00000-of-00002"
    settling_folder = SettlingFolder(str(folder), at_first_look=False)
    assert not settling_folder.is_ready()
    for size in (10, 20, 30):
        big.write_bytes(b"v" * size)
        assert not settling_folder.is_ready()
    (folder / "assets").mkdir()
    assert not settling_folder.is_ready()
    (folder / "assets" / "vocabulary").touch()
    assert not settling_folder.is_ready()
    shutil.rmtree(folder / "assets")
    assert not settling_folder.is_ready()
    assert settling_folder.is_ready()


@pytest.mark.usefixtures("at_rest_at_once")
def test_a_copy_in_pieces_is_ready_when_the_last_piece_is_there(tmp_path: Path) -> None:
    source, target = saved_model(tmp_path / "source"), tmp_path / "1"
    target.mkdir()
    settling_folder = SettlingFolder(str(target), at_first_look=False)
    # In this order the model file comes before the variables that it needs.
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00002", "variables/variables.index"):
        (target / "variables").mkdir(exist_ok=name.startswith("variables"))
        shutil.copy2(source / name, target / name)
        if name.startswith("variables"):
            assert [settling_folder.is_ready() for _ in range(5)] == [False] * 5
    shutil.copy2(source / "variables/variables.data-00001-of-00002", target / "variables")
    assert settling_folder.is_ready()


@pytest.mark.usefixtures("at_rest_at_once")
@pytest.mark.parametrize(
    "missing",
    [
        "saved_model.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00002",
        "variables/variables.data-00001-of-00002",
    ],
)
def test_a_folder_that_lacks_files_gets_ten_quiet_polls(tmp_path: Path, missing: str) -> None:
    folder = saved_model(tmp_path / "1")
    (folder / missing).unlink()
    assert polls_until_ready(SettlingFolder(str(folder), at_first_look=False)) == 11


@pytest.mark.usefixtures("at_rest_at_once")
def test_an_empty_folder_is_tried_in_the_end(tmp_path: Path) -> None:
    assert polls_until_ready(SettlingFolder(str(tmp_path), at_first_look=False)) == 11


@pytest.mark.usefixtures("at_rest_at_once")
def test_at_the_first_look_an_old_folder_is_tried_whatever_it_holds(tmp_path: Path) -> None:
    assert polls_until_ready(SettlingFolder(str(tmp_path), at_first_look=True)) == 1


@pytest.mark.parametrize("at_first_look", [False, True])
def test_a_folder_that_never_comes_to_rest_is_tried_in_the_end(tmp_path: Path, at_first_look: bool) -> None:
    folder = saved_model(tmp_path / "1")
    settling_folder = SettlingFolder(str(folder), at_first_look=at_first_look)
    polls = 1
    while not settling_folder.is_ready():
        polls += 1
        with (folder / "log").open("a") as log:
            log.write("x")
    assert polls == 900


@pytest.mark.parametrize(
    "names",
    [
        *(["saved_model.pb"], ["saved_model.pbtxt"], ["saved_model.cpb"], ["model.tflite"], ["model.onnx"]),
        *(["model.py"], ["model.xml", "model.bin"]),
    ],
)
def test_each_kind_of_model_file_makes_a_folder_whole(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        assert not look_into(str(tmp_path)).looks_whole()
        (tmp_path / name).touch()
    assert look_into(str(tmp_path)).looks_whole()


def test_links_are_looked_at_and_never_lead_round_in_a_circle(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "release")
    (folder / "circle").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "nowhere")
    (tmp_path / "1").symlink_to(folder)
    contents = look_into(str(tmp_path / "1"))
    assert contents.looks_whole()
    assert contents.entries.keys() >= {"circle", "nowhere", "variables/variables.index"}


def test_what_cannot_be_read_is_part_of_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved_model(tmp_path / "1")
    listed = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("variables/"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert look_into(str(folder)).entries["variables/."] == (13,)
    assert look_into(str(tmp_path / "gone")).entries == {".": (2,)}
