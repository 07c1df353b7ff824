"""docs/python-servables.md: its models are served, its clients ask them, and the answers are those on the page."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_server import RunningServer

from pyserving.core.state import State
from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.sources.model_config import ModelConfig

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("jieba")
image = pytest.importorskip("PIL.Image")

PAGE = (Path(__file__).parents[2] / "docs" / "python-servables.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
CLIENTS = re.findall(r"<!-- run -->\n```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"```sh\n(.*?)```\n```json\n(.*?)```", PAGE, re.DOTALL)

GOOD, BAD = ["好", "喜欢"], ["差", "失望"]


def save_onnx(folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]) -> None:
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")


def save_sentiment(folder: Path) -> None:
    """Sums what each word says for the one side and the other."""
    weights = np.array([[0, 0], *[[0, 1]] * len(GOOD), *[[1, 0]] * len(BAD)], np.float32)
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    save_onnx(
        folder,
        [make("Gather", ["weights", "words"], ["found"]), make("ReduceSum", ["found", "axes"], ["scores"], keepdims=0)],
        [info("words", onnx.TensorProto.INT64, ["n", 8])],
        [info("scores", onnx.TensorProto.FLOAT, ["n", 2])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )


def save_mean_colour(folder: Path) -> None:
    info = onnx.helper.make_tensor_value_info
    save_onnx(
        folder,
        [onnx.helper.make_node("ReduceMean", ["pixels"], ["colour"], axes=[1, 2], keepdims=0)],
        [info("pixels", onnx.TensorProto.FLOAT, ["n", 8, 8, 3])],
        [info("colour", onnx.TensorProto.FLOAT, ["n", 3])],
        [],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the page, and the picture."""
    root = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        path = root / "models" / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    (root / "models" / "reviews" / "1" / "vocabulary.txt").write_text(" ".join(GOOD + BAD), encoding="utf-8")
    save_sentiment(root / "models" / "sentiment" / "1")
    save_mean_colour(root / "models" / "mean_colour" / "1")
    image.new("RGB", (40, 30), (255, 0, 51)).save(root / "flower.png")
    image.new("RGB", (40, 30), (255, 0, 51)).save(root / "flower.jpeg")
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


def with_ports(code: str, server: RunningServer) -> str:
    assert server.server.ports.rest_address
    return code.replace("localhost:8501", server.server.ports.rest_address).replace(
        "localhost:8500", server.server.ports.grpc_addresses[0]
    )


def test_the_page_has_what_is_tested() -> None:
    assert len(FILES) == 6
    assert len(CLIENTS) == 2
    assert len(COMMANDS) == 3


@pytest.mark.parametrize("number", range(3))
def test_commands(server: RunningServer, number: int) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    command, shown = COMMANDS[number]
    answer = subprocess.run(with_ports(command, server), shell=True, capture_output=True, check=True).stdout.decode()
    if "ndjson" in command:
        assert answer == shown
    else:
        assert json.loads(answer) == json.loads(shown)


def test_the_client_with_a_picture(server: RunningServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in ("flower.png", "flower.jpeg"):
        scope: dict[str, Any] = {}
        exec(with_ports(CLIENTS[0].replace("flower.png", name), server), scope)
        np.testing.assert_allclose([scope["red"], scope["green"], scope["blue"]], [1, 0, 0.2], atol=0.02)
    with pytest.raises(AssertionError, match=r"400 .*image must be a JPEG or PNG file"):
        server.post("photos:predict", {"instances": [{"b64": "AAAA"}]})


def test_the_client_of_a_stream(server: RunningServer) -> None:
    scope: dict[str, Any] = {}
    exec(with_ports(CLIENTS[1], server), scope)
    assert scope["words"] == ["3 ...", "2 ...", "1 ...", "go"]


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
