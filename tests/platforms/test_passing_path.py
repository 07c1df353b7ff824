"""Folders that come and go are loaded from by few paths, of which nobody hears."""

import os
import shutil
from pathlib import Path

import pytest
from tensorflow_models import ModelDir

from pyserving.core.errors import Code, ServingError
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.passing_path import PassingPath
from pyserving.platforms.tensorflow.session_config import SessionOptions

on_linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open folders have no paths here")


@on_linux
def test_one_folder_after_the_other_has_the_same_path(tmp_path: Path) -> None:
    paths = set()
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
        passing = PassingPath(str(tmp_path / name))
        paths.add(passing.path)
        assert (Path(passing.path) / "content").read_text() == name
        passing.close()
        assert not os.path.exists(Path(passing.path) / "content")
    assert len(paths) == 1


@on_linux
def test_two_folders_at_once_have_two() -> None:
    first, second = PassingPath("/"), PassingPath("/")
    assert first.path != second.path
    first.close()
    second.close()
    second.close()


def test_a_folder_that_is_not_there_keeps_its_path(tmp_path: Path) -> None:
    passing = PassingPath(str(tmp_path / "missing"))
    assert passing.path == str(tmp_path / "missing")
    passing.close()


@pytest.mark.tensorflow
def test_what_went_wrong_is_told_of_the_folder(tmp_path: Path, model_dir: ModelDir) -> None:
    shutil.copytree(model_dir("half_plus_two_tf2") / "1", tmp_path / "1")
    (tmp_path / "1" / "variables" / "variables.data-00000-of-00001").unlink()
    with pytest.raises(ServingError) as caught:
        TensorFlowModel(str(tmp_path / "1"), SessionOptions())
    assert caught.value.code is Code.NOT_FOUND
    assert f"{tmp_path}/1/variables/variables" in caught.value.message
    assert "/proc/" not in caught.value.message


@on_linux
@pytest.mark.tensorflow
def test_an_unloaded_model_keeps_no_folder_open(tmp_path: Path, model_dir: ModelDir) -> None:
    # A copy: models of other tests in this process may not be gone yet.
    version = shutil.copytree(model_dir("half_plus_two_tf2") / "1", tmp_path / "1")

    def times_open() -> int:
        links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        return sum(os.path.samefile(link, version) for link in links if os.path.isdir(link))

    model = TensorFlowModel(str(version), SessionOptions())
    assert times_open() == 1
    model.close()
    assert times_open() == 0
