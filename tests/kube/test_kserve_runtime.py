"""deploy/kserve: its kinds by KServe's own models; its containers run as KServe runs them, asked by KServe's client."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from kubelet import succeeds
from manifests import DEPLOY, Manifest, only, rendered
from serving import Serving, free_port
from waiting import wait_until

from pyserving.protos import messages

KSERVE = DEPLOY / "kserve"
NAME = "half-plus-two"
EXAMPLES = sorted((KSERVE / "examples").glob("*.yaml"))

# The arguments of the runtime that KServe itself brings for TensorFlow Serving (config/runtimes there).
OF_KSERVE = [
    "--model_name={{.Name}}",
    "--port=9000",
    "--rest_api_port=8080",
    "--model_base_path=/mnt/models",
    "--rest_api_timeout_in_ms=60000",
]

needs_kserve = pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="needs kserve")


def runtimes(scope: str = "cluster") -> list[Manifest]:
    return rendered(KSERVE / scope)


def container(name: str) -> dict[str, Any]:
    (one,) = only(runtimes(), "ClusterServingRuntime", name)["spec"]["containers"]
    return dict(one)


@pytest.mark.kubernetes
@needs_kserve
@pytest.mark.parametrize("scope", ["cluster", "namespaced", "examples"])
def test_kinds_of_kserve(scope: str) -> None:
    script = Path(__file__).with_name("kserve_kinds.py")
    objects = [yaml.safe_load(path.read_text()) for path in EXAMPLES] if scope == "examples" else runtimes(scope)
    done = subprocess.run(
        [sys.executable, script], input=json.dumps(objects), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [f"{one['kind']} {one['metadata']['name']}" for one in objects]


class KServePod:
    """The container that KServe starts: its command and arguments, with the model where the storage initializer puts
    it, and the paths and ports of this machine."""

    def __init__(self, words: list[str], model: Path, folder: Path) -> None:
        (folder / "mnt").mkdir()
        shutil.copytree(model, folder / "mnt/models")
        ports = {8080: free_port(), 9000: free_port()}
        self.ports: dict[int | str, int] = {**ports}
        program = {"pyserving": "main", "/usr/bin/tensorflow_model_server": "model_server"}[words[0]]
        said = " ".join(words[1:]).replace("{{.Name}}", NAME).replace("/mnt/models", f"{folder}/mnt/models")
        for there, here in ports.items():
            said = said.replace(f"={there}", f"={here}")
        self.server = Serving(
            *said.split(),
            command=[sys.executable, "-m", f"pyserving.cli.{program}"],
            ports=(ports[8080], ports[9000]),
            options=(),
        )

    def wait_until(self, probe: dict[str, Any]) -> "KServePod":
        wait_until(lambda: succeeds(probe, self.ports), self.server.log)
        return self

    def predicted(self) -> Any:
        return self.server.post_json(f"/v1/models/{NAME}:predict", {"instances": [1.0, 2.0]})


def words_of(name: str) -> list[str]:
    return [*container(name)["command"], *container(name)["args"]]


@pytest.fixture(scope="module")
def pod(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KServePod]:
    """The runtime for REST, on a model without a version; gRPC has the same command."""
    assert words_of("pyserving") == words_of("pyserving-grpc")
    started = KServePod(words_of("pyserving"), models_folder / "half_plus_two_tf2/1", tmp_path_factory.mktemp("pod"))
    yield started.wait_until(container("pyserving")["readinessProbe"])
    started.server.process.terminate()
    assert started.server.process.wait(60) == 0


def test_both_runtimes_probes(pod: KServePod) -> None:
    for name in ("pyserving", "pyserving-grpc"):
        for kind in ("readinessProbe", "livenessProbe"):
            assert succeeds(container(name)[kind], pod.ports), (name, kind)
    # Where a runtime names no probe, KServe asks whether a connection can be made to the first port.
    assert succeeds({"tcpSocket": {"port": 8080}}, pod.ports)
    assert not succeeds({"grpc": {"port": 9000, "service": "nothing"}}, pod.ports)
    assert succeeds({"grpc": {"port": 9000, "service": NAME}}, pod.ports)


def test_a_model_without_a_version_is_version_1(pod: KServePod) -> None:
    status, answer = pod.server.get(f"/v1/models/{NAME}")
    assert status == 200
    assert [(one["version"], one["state"]) for one in answer["model_version_status"]] == [("1", "AVAILABLE")]
    assert pod.predicted() == (200, {"predictions": [2.5, 3.0]})


def test_all_protocols_that_the_runtimes_name(pod: KServePod) -> None:
    named = {one for runtime in runtimes() for one in runtime["spec"]["protocolVersions"]}
    asked = {"v1", "v2", "grpc-v1", "grpc-v2"}
    assert named == asked
    assert pod.predicted()[0] == 200
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}
    status, answer = pod.server.post_json(f"/v2/models/{NAME}/infer", body)
    assert (status, answer["outputs"][0]["data"]) == (200, [2.5, 3.0])
    predict = messages.PredictRequest(model_spec=messages.ModelSpec(name=NAME))
    predict.inputs["x"].dtype = 1
    predict.inputs["x"].float_val.extend([1.0, 2.0])
    predict.inputs["x"].tensor_shape.dim.add(size=2)
    infer = messages.ModelInferRequest(model_name=NAME)
    infer.inputs.add(name="x", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1.0, 2.0])
    with grpc.insecure_channel(f"127.0.0.1:{pod.ports[9000]}") as channel:
        by_v1 = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        (output,) = messages.PredictResponse.FromString(by_v1(predict.SerializeToString(), timeout=60)).outputs.values()
        assert list(output.float_val) == [2.5, 3.0]
        by_v2 = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        (result,) = messages.ModelInferResponse.FromString(by_v2(infer.SerializeToString(), timeout=60)).outputs
        assert list(result.contents.fp32_contents) == [2.5, 3.0]


@pytest.mark.kubernetes
@needs_kserve
def test_the_client_of_kserve(pod: KServePod) -> None:
    script = Path(__file__).with_name("kserve_client.py")
    command = [sys.executable, script, str(pod.ports[8080]), str(pod.ports[9000])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert "nothing" in answers.pop("v2 error")
    assert answers == {
        "v1": [2.5, 3.0],
        "v2 binary": [2.5, 3.0],
        "v2 json": [2.5, 3.0],
        "v2 live": True,
        "v2 ready": True,
        "v2 model ready": True,
        "v2 other model ready": False,
        "grpc": [2.5, 3.0],
        "grpc live": True,
        "grpc ready": True,
        "grpc model ready": True,
    }


def test_the_runtime_that_kserve_brings_for_tensorflow(models_folder: Path, tmp_path: Path) -> None:
    """With nothing but another image in it. Its model has versions; its ports open when the model is there."""
    (link,) = re.findall(r"ln -s /opt/pyserving/bin/(\S+) (\S+)", (DEPLOY.parent / "Dockerfile").read_text())
    assert link == ("tensorflow_model_server", "/usr/bin/tensorflow_model_server")
    started = KServePod([link[1], *OF_KSERVE], models_folder / "half_plus_two_tf2", tmp_path)
    try:
        started.wait_until({"tcpSocket": {"port": 8080}})
        assert started.predicted() == (200, {"predictions": [2.5, 3.0]})
    finally:
        started.server.process.terminate()
        assert started.server.process.wait(60) == 0


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_name_what_the_runtimes_have(example: Path) -> None:
    model = yaml.safe_load(example.read_text())["spec"]["predictor"]["model"]
    runtime = only(runtimes(), "ClusterServingRuntime", model["runtime"])["spec"]
    assert model["protocolVersion"] in runtime["protocolVersions"]
    assert model["modelFormat"] in runtime["supportedModelFormats"]
