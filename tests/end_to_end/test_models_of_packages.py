"""Models that packages on PyPI ship, served over both protocols and compared with the packages' own answers.

Where a package runs its model through an ONNX Runtime session, that session is replaced by one that asks the server:
all else, from a file or a picture to what a user of the package gets, is the package's own code. A package that is not
installed is skipped; ``make test-models`` installs them all.
"""

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import Ask, ask_grpc, ask_rest
from serving import Serving

from pyserving.platforms.model import Array

ort = pytest.importorskip("onnxruntime")
BOTH = pytest.mark.parametrize("ask", [ask_rest, ask_grpc])


def package(name: str) -> Path:
    """The folder of a package, which is not imported: not all that it asks for may be installed."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"needs the package {name}: make test-models")
    return Path(next(iter(found.submodule_search_locations)))


class ServedSession:
    """Stands for an ``onnxruntime.InferenceSession``, and lets a server compute."""

    def __init__(self, session: Any, server: Serving, name: str, ask: Ask) -> None:
        self._session, self._server, self._name, self._ask = session, server, name, ask
        self.runs = 0

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any], *_: Any) -> list[Array]:
        self.runs += 1
        dtypes = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
        made = {node.name: np.asarray(inputs[node.name], dtypes[node.type]) for node in self._session.get_inputs()}
        answers = self._ask(self._server, self._name, made)
        return [
            answers[node.name].astype(dtypes[node.type])
            for node in self._session.get_outputs()
            if outputs is None or node.name in outputs
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Mapping[str, tuple[Path, str, str]]], Serving]]:
    """``serve({"name": (file or folder, name in the version folder, platform)})``"""
    running: list[Serving] = []

    def start(models: Mapping[str, tuple[Path, str, str]]) -> Serving:
        config = ""
        for name, (source, target, platform) in models.items():
            version = tmp_path / name / "1"
            if source.is_dir():
                shutil.copytree(source, version)
            else:
                version.mkdir(parents=True)
                shutil.copyfile(source, version / target)
            config += f'config {{ name: "{name}" base_path: "{version.parent}" model_platform: "{platform}" }} '
        (tmp_path / "models.config").write_text(f"model_config_list {{ {config} }}")
        running.append(Serving(f"--config={tmp_path / 'models.config'}").wait_until_ready())
        return running[-1]

    yield start
    for server in running:
        assert server.stop() == 0


def test_basic_pitch_in_four_engines(serve: Callable[..., Serving]) -> None:
    """A SavedModel, a .tflite and an .onnx of one network that finds the notes in a second or two of music."""
    folder = package("basic_pitch") / "saved_models" / "icassp_2022"
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    pytest.importorskip("openvino")
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow")
    server = serve(
        {
            "by-tensorflow": (folder / "nmp", "", "tensorflow"),
            "by-openvino": (folder / "nmp", "", "openvino"),
            "by-tflite": (folder / "nmp.tflite", "model.tflite", "tensorflow"),
            "by-onnx": (folder / "nmp.onnx", "model.onnx", "tensorflow"),
        }
    )
    seconds = np.arange(43844, dtype=np.float32) / 22050
    audio = np.sin(2 * np.pi * 440 * seconds, dtype=np.float32).reshape(1, -1, 1)
    # As the class Model in basic_pitch/inference.py asks its engines.
    session = ort.InferenceSession(str(folder / "nmp.onnx"), providers=["CPUExecutionProvider"])
    names = {"note": "StatefulPartitionedCall:1", "onset": "StatefulPartitionedCall:2",
             "contour": "StatefulPartitionedCall:0"}  # fmt: skip
    by_onnx = dict(zip(names, session.run(list(names.values()), {"serving_default_input_2:0": audio}), strict=True))
    runner = litert.Interpreter(str(folder / "nmp.tflite")).get_signature_runner()
    by_tflite = runner(input_2=audio)
    assert by_onnx["note"][0, :, 48].mean() > 0.3, "440 Hz is the 49th key of a piano"
    for ask in (ask_rest, ask_grpc):
        served = ask(server, "by-onnx", {"serving_default_input_2:0": audio})
        for alias, name in names.items():
            np.testing.assert_allclose(served[name], by_onnx[alias], atol=1e-6)
        answers = {
            name: ask(server, name, {"input_2": audio}) for name in ("by-tflite", "by-tensorflow", "by-openvino")
        }
        for alias in names:
            np.testing.assert_allclose(answers["by-tflite"][alias], by_tflite[alias], atol=1e-6)
            np.testing.assert_allclose(answers["by-tensorflow"][alias], by_onnx[alias], atol=1e-3)
            np.testing.assert_allclose(answers["by-openvino"][alias], by_onnx[alias], atol=1e-3)


def test_a_classifier_of_onnxruntimes_own(serve: Callable[..., Serving]) -> None:
    """Of its two outputs one is no tensor, but probabilities by class."""
    datasets = pytest.importorskip("onnxruntime.datasets")
    file = Path(datasets.get_example("logreg_iris.onnx"))
    server = serve({"iris": (file, "model.onnx", "tensorflow")})
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    flowers = np.array([[5.1, 3.5], [7.0, 3.2], [6.3, 3.3]], np.float32)[:, :2]
    (node,) = session.get_inputs()
    rows = flowers[: node.shape[0]] if isinstance(node.shape[0], int) else flowers
    label = session.get_outputs()[0].name
    expected = session.run([label], {node.name: rows})[0]
    for ask in (ask_rest, ask_grpc):
        assert ask(server, "iris", {node.name: rows})[label].tolist() == expected.tolist()


@BOTH
def test_magika_tells_what_a_file_is(serve: Callable[..., Serving], ask: Ask) -> None:
    models = package("magika") / "models"
    magika = pytest.importorskip("magika").Magika()
    server = serve({"magika": (next(models.glob("*/model.onnx")), "model.onnx", "onnx")})
    contents = [
        b"#!/usr/bin/env python3\nimport sys\n\ndef main():\n    print(sys.argv)\n" * 5,
        b"#include <vector>\n\nint main() {\n    std::vector<int> v{1, 2};\n    return v.size();\n}\n" * 3,
        b"<!doctype html><html><head><title>t</title></head><body><p>text</p></body></html>" * 5,
    ]
    expected = [magika.identify_bytes(content) for content in contents]
    session = magika._onnx_session = ServedSession(magika._onnx_session, server, "magika", ask)
    answers = [magika.identify_bytes(content) for content in contents]
    assert session.runs == len(contents)
    assert [answer.output.label for answer in answers] == [own.output.label for own in expected]
    assert [str(answer.output.label) for answer in answers] == ["python", "cpp", "html"]
    np.testing.assert_allclose([answer.score for answer in answers], [own.score for own in expected], rtol=1e-5)


@BOTH
def test_rapidocr_reads_a_picture(serve: Callable[..., Serving], ask: Ask) -> None:
    folder = package("rapidocr_onnxruntime") / "models"
    cv2 = pytest.importorskip("cv2")
    engine = pytest.importorskip("rapidocr_onnxruntime").RapidOCR()
    parts = {"text_det": "*det_infer.onnx", "text_cls": "*cls_infer.onnx", "text_rec": "*rec_infer.onnx"}
    server = serve({name: (next(folder.glob(glob)), "model.onnx", "onnx") for name, glob in parts.items()})
    picture = np.full((160, 640, 3), 255, np.uint8)
    cv2.putText(picture, "model server 2026", (20, 100), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 4)
    expected, _ = engine(picture)
    sessions = {}
    for name, part in (("text_det", engine.text_det), ("text_cls", engine.text_cls), ("text_rec", engine.text_rec)):
        holder = part.infer if hasattr(part, "infer") else part.session
        sessions[name] = holder.session = ServedSession(holder.session, server, name, ask)
    answers, _ = engine(picture)
    assert all(session.runs for session in sessions.values())
    assert " ".join(text for _, text, _ in answers).replace(" ", "") == "modelserver2026"
    assert [(box, text) for box, text, _ in answers] == [(box, text) for box, text, _ in expected]
    np.testing.assert_allclose([score for *_, score in answers], [score for *_, score in expected], rtol=1e-4)


@BOTH
def test_nudenet_looks_at_pictures(serve: Callable[..., Serving], ask: Ask) -> None:
    file = package("nudenet") / "320n.onnx"
    pytest.importorskip("cv2")
    detector = pytest.importorskip("nudenet").NudeDetector()
    server = serve({"nudenet": (file, "model.onnx", "onnx")})
    pictures = [np.random.default_rng(seed).integers(0, 256, (200, 300, 3), np.uint8) for seed in range(3)]
    raw: list[list[Array]] = []

    def keep(session: Any) -> Any:
        run = session.run

        class Keeping:
            def run(self, *arguments: Any) -> Any:
                raw.append(run(*arguments))
                return raw[-1]

        return Keeping()

    session = detector.onnx_session
    detector.onnx_session = keep(session)
    expected = detector.detect_batch(pictures)
    detector.onnx_session = keep(ServedSession(session, server, "nudenet", ask))
    assert detector.detect_batch(pictures) == expected
    own, served = raw
    np.testing.assert_allclose(served[0], own[0], rtol=1e-3, atol=1e-3)
