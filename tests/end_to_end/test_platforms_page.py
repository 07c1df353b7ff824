"""The platform that docs/platforms.md shows works, installed as another package would be."""

import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from serving import Serving
from waiting import wait_until

from pyserving.protos import messages

PAGE = Path(__file__).parents[2] / "docs" / "platforms.md"


def block(language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip leaves it: the module, and metadata with its entry point, beside one that cannot be imported."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "linear_platform.py").write_text(block("python"), encoding="utf-8")
    (line,) = (line for line in block("toml").splitlines() if not line.startswith("["))
    info = folder / "linear_platform-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: linear-platform\nVersion: 1.0\n")
    entries = line.replace('"', "") + "\nbroken = no_such_module:Platform\n"
    (info / "entry_points.txt").write_text(f"[pyserving.platforms]\n{entries}")
    return folder


def save(folder: Path) -> None:
    folder.mkdir(parents=True)
    np.savez(folder / "model.npz", w=np.array([[2.0], [3.0]], np.float32), b=np.array([1.0], np.float32))


def state(server: Serving, name: str) -> str | None:
    status, answer = server.get(f"/v1/models/{name}")
    return answer["model_version_status"][0]["state"] if status == 200 else None


@pytest.fixture(scope="module")
def server(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Serves the model recognised by its file, by the name of its platform, and one of the broken platform."""
    root = tmp_path_factory.mktemp("models")
    models = ""
    for name, platform in (("found", "tensorflow"), ("named", "linear"), ("hopeless", "broken")):
        save(root / name / "1")
        models += f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "{platform}" }}\n'
    (root / "models.config").write_text(f"model_config_list {{ {models} }}")
    server = Serving(f"--config={root / 'models.config'}", env={"PYTHONPATH": f"{site}:{Path(__file__).parents[2]}"})
    wait_until(lambda: {state(server, name) for name in ("found", "named")} == {"AVAILABLE"}, server.log)
    yield server
    assert server.stop() == 0


def test_the_example_is_40_lines_at_most() -> None:
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 40


@pytest.mark.parametrize("name", ["found", "named"])
def test_the_model_answers_over_rest(server: Serving, name: str) -> None:
    assert server.post_json(f"/v1/models/{name}:predict", {"instances": [[1, 1], [0, 2]]}) == (
        200,
        {"predictions": [[6.0], [7.0]]},
    )
    status, answer = server.post_json(f"/v1/models/{name}:predict", {"instances": [[1, 1, 1]]})
    assert (status, answer) == (400, {"error": "input x must have shape [-1, 2], got [1, 3]"})
    shown = server.get(f"/v1/models/{name}/metadata")[1]["metadata"]["signature_def"]["signature_def"]
    assert shown["serving_default"]["inputs"]["x"]["tensor_shape"]["dim"][0]["size"] == "-1"


def test_the_model_answers_over_grpc(server: Serving) -> None:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="found"))
    proto = messages.TensorProto(dtype=1, float_val=[1, 1])
    for size in (1, 2):
        proto.tensor_shape.dim.add(size=size)
    request.inputs["x"].CopyFrom(proto)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        predict = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=messages.PredictRequest.SerializeToString,
            response_deserializer=messages.PredictResponse.FromString,
        )
        assert list(predict(request, timeout=30).outputs["y"].float_val) == [6.0]


def test_a_platform_that_cannot_be_imported_fails_its_own_models_only(server: Serving) -> None:
    log = server.log()
    assert "platform broken (no_such_module:Platform) cannot be used: ModuleNotFoundError" in log
    assert "Traceback" in log
    assert server.post_json("/v1/models/hopeless:predict", {"instances": [[1, 1]]})[0] == 404
