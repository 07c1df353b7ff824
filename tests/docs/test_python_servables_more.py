"""The models of docs/python-servables.md, asked what the page does not ask them. Its blocks are run by tests/docs."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from page_blocks import read_blocks
from page_models import python_servables
from running_server import RunningServer

from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.sources.model_config import ModelConfig

image = pytest.importorskip("PIL.Image")

PAGE = Path(__file__).parents[2] / "docs" / "python-servables.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the page, and the picture in both formats."""
    root = tmp_path_factory.mktemp("page")
    python_servables(root)
    for block in read_blocks(PAGE):
        if block.mark == "file":
            path = root / block.value
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    with image.open(root / "flower.png") as picture:
        picture.save(root / "flower.jpeg")
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    configs = [ModelConfig(path.name, str(path)) for path in (folder / "models").iterdir()]
    server = RunningServer(configs, python_options=PythonOptions(PythonModels.ON))
    for config in configs:
        state = server.settled(config.name)
        assert state.state is State.AVAILABLE, state.error
    yield server
    server.stop()


def test_a_jpeg_and_what_is_no_picture(server: RunningServer, folder: Path) -> None:
    picture = base64.b64encode((folder / "flower.jpeg").read_bytes()).decode()
    answer = server.post("photos:predict", {"instances": [{"b64": picture}]})
    np.testing.assert_allclose(answer["predictions"][0], [1, 0, 0.2], atol=0.02)
    with pytest.raises(AssertionError, match=r"400 .*image must be a JPEG or PNG file"):
        server.post("photos:predict", {"instances": [{"b64": "AAAA"}]})


def test_two_models_at_the_same_time(server: RunningServer, folder: Path) -> None:
    picture = base64.b64encode((folder / "flower.png").read_bytes()).decode()
    answer = server.post("both:predict", {"inputs": {"text": ["我喜欢"], "image": [{"b64": picture}]}})
    assert answer["outputs"]["label"] == ["good"]
    assert answer["outputs"]["colour"][0] == pytest.approx([1, 0, 0.2])


def test_an_empty_text_is_refused(server: RunningServer) -> None:
    with pytest.raises(AssertionError, match=r"400 .*text must not be empty"):
        server.post("reviews:predict", {"instances": ["好", " "]})


def test_a_process_of_its_own(server: RunningServer) -> None:
    answer = server.post("careful:predict", {"inputs": [1.0]})
    assert answer["outputs"]["y"] == [2.0]
    assert answer["outputs"]["pid"] != os.getpid()
