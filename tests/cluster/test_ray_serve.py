"""The application on a real Ray cluster of several nodes: what clients get, and what happens when nodes die."""

import contextlib
import gzip
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from client_threads import ClientThreads
from linear_models import write_linear
from ray_nodes import PREDICT, SETTINGS, STATUS, RayCluster, Served, linear
from waiting import wait_until

from pyserving.core.errors import Code, ServingError
from pyserving.protos import messages
from pyserving.sources.model_config import ModelConfig
from pyserving.sources.version_policy import All

pytestmark = pytest.mark.cluster

Apply = Callable[..., Served]
ModelDir = Callable[[str], Path]


class Load(ClientThreads):
    """Clients that ask one model again and again, over REST and gRPC, until they are stopped."""

    def __init__(self, served: Served, model: str, clients: int = 3) -> None:
        self.answers: Counter[object] = Counter()
        """What came, and how often: a prediction, or a failure."""
        self._served = served
        self._model = model
        super().__init__(partial(self._ask, number % 2 == 0) for number in range(clients))

    def _ask(self, rest: bool) -> None:
        body = b'{"instances": [0.0]}'
        data = request(self._model).SerializeToString()
        while not self._stopped.is_set():
            if rest:
                status, answer, _ = self._served.rest(f"/v1/models/{self._model}:predict", body)
                self.answers[json.loads(answer)["predictions"][0] if status == 200 else (status, answer)] += 1
            else:
                code, answer = self._served.rpc(PREDICT, data)
                self.answers[y_of(answer) if code == "OK" else (code, answer)] += 1

    @property
    def failures(self) -> dict[object, int]:
        return {answer: count for answer, count in self.answers.items() if not isinstance(answer, float)}


def request(model: str, *x: float) -> messages.PredictRequest:
    made = messages.PredictRequest(model_spec=messages.ModelSpec(name=model))
    made.inputs["x"].dtype = messages.DataType.Value("DT_FLOAT")
    made.inputs["x"].tensor_shape.dim.add(size=len(x or (0.0,)))
    made.inputs["x"].float_val.extend(x or (0.0,))
    return made


def y_of(answer: bytes) -> float:
    return float(messages.PredictResponse.FromString(answer).outputs["y"].float_val[0])


REST = [
    ("/v1/models/half_plus_two:predict", b'{"instances": [1.0, 2.0, 5.0]}'),
    ("/v1/models/half_plus_two/versions/123:predict", b'{"inputs": {"x": [1.0]}}'),
    ("/v1/models/half_plus_two:classify", b'{"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}]}'),
    ("/v1/models/half_plus_two:regress", b'{"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}]}'),
    ("/v1/models/half_plus_two:predict", b'{"instances": ["x"]}'),
    ("/v1/models/half_plus_two:predict", b'{"instances": [1.0'),
    ("/v1/models/half_plus_two:predict", b'{"signature_name": "none", "instances": [1.0]}'),
    ("/v1/models/half_plus_two/versions/9:predict", b'{"instances": [1.0]}'),
    ("/v1/models/half_plus_two/labels/none:predict", b'{"instances": [1.0]}'),
    ("/v1/models/half_plus_two", None),
    ("/v1/models/half_plus_two/metadata", None),
    ("/v1/models/half_plus_two_tf2:predict", b'{"instances": [{"x": 1.0}, {"x": 2.0}]}'),
    ("/v1/models/half_plus_two_tf2", None),
    ("/v1/models/lines/labels/old:predict", b'{"instances": [1.0]}'),
    ("/v1/models/lines/versions/2:predict", b'{"instances": [1.0]}'),
    ("/v1/models/lines/labels/old", None),
    ("/v1/models/none:predict", b'{"instances": [1.0]}'),
    ("/v1/models/none:predict", b'{"instances": '),
    ("/v1/models/none", None),
    ("/v1/models/half_plus_two:explode", b"{}"),
    ("/nothing", None),
    ("/readyz", None),
    ("/healthz", None),
    ("/v2/health/ready", None),
    ("/v2/models/half_plus_two_tf2", None),
    (
        "/v2/models/lines/infer",
        b'{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}',
    ),
    ("/v2/models/none/ready", None),
]


def with_headers() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    wanted = b'{"name": "y", "parameters": {"binary_data": true}}'
    head = b'{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": %d}}], '
    for size in (8, 9):  # the second one says so of a body that has less
        start = head % size + b'"outputs": [' + wanted + b"]}"
        binary = {"inference-header-content-length": str(len(start)), "content-type": "application/octet-stream"}
        yield "/v2/models/lines/infer", start + struct.pack("<2f", 1, 2), binary
    numbers = b",".join(b"%d.5" % (i * 7919 % 10007) for i in range(60_000))
    yield "/v1/models/lines:predict", gzip.compress(b'{"instances": [' + numbers + b"]}"), {"content-encoding": "gzip"}
    yield "/v1/models/lines:predict", b"no gzip", {"content-encoding": "gzip"}
    yield "/v1/models/lines:predict", b'{"instances": [1.0]}', {"accept": "text/event-stream"}


def rpcs() -> Iterator[tuple[str, bytes]]:
    classify = messages.ClassificationRequest(
        model_spec=messages.ModelSpec(name="half_plus_two", signature_name="classify_x_to_y")
    )
    classify.input.example_list.examples.add().features.feature["x"].float_list.value.append(3.0)
    metadata = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "half_plus_two"
    labelled = request("lines", 1.0)
    labelled.model_spec.version_label = "old"
    missing = request("lines", 1.0)
    missing.model_spec.version.value = 7
    unknown = request("lines", 1.0)
    unknown.inputs["é" * 9000].CopyFrom(unknown.inputs["x"])  # more than clients take in a status
    asked = (request("half_plus_two", 1.0, 2.0), request("lines", 5.0), request("none", 1.0))
    for made in (*asked, labelled, missing, unknown):
        yield PREDICT, made.SerializeToString()
    yield PREDICT, b"\x0a\xff"
    yield PREDICT, b""
    yield "/tensorflow.serving.PredictionService/Classify", classify.SerializeToString()
    yield "/tensorflow.serving.PredictionService/GetModelMetadata", metadata.SerializeToString()
    for name in ("half_plus_two", "lines", "none"):
        yield STATUS, messages.GetModelStatusRequest(model_spec=messages.ModelSpec(name=name)).SerializeToString()
    infer = messages.ModelInferRequest(model_name="lines")
    tensor = infer.inputs.add(name="x", datatype="FP32", shape=[1])
    tensor.contents.fp32_contents.append(2.0)
    yield "/inference.GRPCInferenceService/ModelInfer", infer.SerializeToString()
    yield "/inference.GRPCInferenceService/ServerReady", b""
    yield "/grpc.health.v1.Health/Check", b""


def readable(method: str, answer: tuple[str, bytes]) -> object:
    """The same for the same answer: the order of a map's entries is free."""
    if not method.endswith("GetModelMetadata"):
        return answer
    response = messages.GetModelMetadataResponse.FromString(answer[1])
    definitions = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value)
    return answer[0], response.model_spec, dict(definitions.signature_def)


def test_clients_get_what_a_server_of_its_own_answers(
    application: Apply, direct: Callable[..., Served], model_dir: ModelDir, tmp_path: Path
) -> None:
    for version in (1, 2):
        write_linear(tmp_path / "lines", version)
    share = messages.ModelOptions(ray=messages.RayOptions(num_cpus=0.5))
    models = [
        ModelConfig("half_plus_two", str(model_dir("half_plus_two")), options=share),
        ModelConfig("half_plus_two_tf2", str(model_dir("half_plus_two_tf2")), options=share),
        ModelConfig("lines", str(tmp_path / "lines"), version_policy=All(), labels={"old": 1, "new": 2}, options=share),
    ]
    ours, theirs = application(*models), direct(models)
    assert ours.rest("/v1/models/lines:predict", b'{"instances": [0]}')[0] == 200
    for path, body in REST:
        assert ours.rest(path, body) == theirs.rest(path, body), (path, body)
    for method, data in rpcs():
        assert readable(method, ours.rpc(method, data)) == readable(method, theirs.rpc(method, data)), (method, data)
    streamed = "/tensorflow.serving.PredictionService/PredictStreamed"
    for name in ("lines", "none"):
        data = request(name, 1.0).SerializeToString()
        assert ours.stream(streamed, data) == theirs.stream(streamed, data), name
    for asked in with_headers():
        assert ours.rest(*asked) == theirs.rest(*asked), asked[::2]
    data = request("lines", 1.0).SerializeToString()
    assert ours.rpc(PREDICT, data, [("some-bin", b"\0\xff")]) == theirs.rpc(PREDICT, data, [("some-bin", b"\0\xff")])
    listed = json.loads(ours.rest("/v1/models")[1])["models"]
    assert listed.keys() == {"half_plus_two", "half_plus_two_tf2", "lines"}

    status, body, _ = ours.rest("/v1/models/lines:promote", b"{}")
    assert (status, b"changed by their config file" in body) == (400, True), body
    code, text = ours.rpc("/tensorflow.serving.ModelService/HandleReloadConfigRequest", b"")
    assert (code, b"changed by their config file" in text) == ("FAILED_PRECONDITION", True)


def test_a_new_version_takes_over_in_all_replicas_without_a_failed_request(application: Apply, tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1)
    served = application(linear("m", base, replicas=3, num_cpus=0.5))
    with Load(served, "m") as load:
        wait_until(lambda: load.answers[1.0] > 20)
        write_linear(base, 2)
        wait_until(lambda: served.states("m").get(2) == "AVAILABLE")
        # It is told of once every replica answers with it.
        told = [served.rest("/v1/models/m/versions/2:predict", b'{"instances": [0]}')[0] for _ in range(30)]
        latest = {served.predict("m", 0.0)[0] for _ in range(30)}
        wait_until(lambda: served.states("m").get(1) == "END")
    assert load.failures == {}
    assert set(told) == {200}
    assert latest == {2.0}
    assert load.answers[1.0]
    assert load.answers[2.0]


def test_a_version_that_one_replica_cannot_load_is_served_by_none(application: Apply, tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_linear(base, 1)
    served = application(linear("m", base, replicas=2, num_cpus=0.5))
    lock = tmp_path / "first"
    source = f"""
import os
os.open({str(lock)!r}, os.O_CREAT | os.O_EXCL)  # the second replica to load it fails
from pyserving import Model, Tensor
import numpy as np

class Linear(Model):
    def predict(self, x: Tensor[np.float32, None]) -> {{{{"y": Tensor[np.float32, None]}}}}:
        return {{{{"y": x}}}}
"""
    write_linear(base, 2, source=source)
    wait_until(lambda: served.states("m").get(2) == "END")
    assert {served.predict("m", 0.0)[0] for _ in range(20)} == {1.0}


def test_weights_and_labels_follow_the_config_file(application: Apply, tmp_path: Path) -> None:
    for version in (1, 2):
        write_linear(tmp_path / "m", version)
    config = tmp_path / "models.config"
    text = f"""
        model_config_list {{ config {{
            name: "m" base_path: "{tmp_path}/m" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }} version_labels {{ key: "stable" value: %d }}
            pyserving {{ ray {{ replicas: 2 num_cpus: 0.5 }} traffic {{ split {{ version: %d weight: 1 }} }} }}
        }} }}"""
    config.write_text(text % (1, 1))
    from dataclasses import replace

    from pyserving.sources.model_config import read_model_config_file

    models = read_model_config_file(str(config)) or []
    served = application(*models, settings=replace(SETTINGS, config_file=str(config), config_poll_wait=0.2))
    assert {served.predict("m", 0.0)[0] for _ in range(10)} == {1.0}
    config.write_text(text % (2, 2))
    wait_until(lambda: {served.predict("m", 0.0)[0] for _ in range(10)} == {2.0})
    stable = {served.rest("/v1/models/m/labels/stable:predict", b'{"instances": [0]}')[1] for _ in range(10)}
    assert [json.loads(body)["predictions"] for body in stable] == [[2.0]]


def test_a_node_that_dies_under_load_takes_no_request_with_it(
    ray_cluster: RayCluster, application: Apply, tmp_path: Path
) -> None:
    write_linear(tmp_path / "m", 1, seconds=0.02)
    node = ray_cluster.add_node(1)
    everywhere = ray_cluster.num_cpus()
    served = application(linear("m", tmp_path / "m", replicas=everywhere))
    with Load(served, "m", clients=6) as load:
        wait_until(lambda: load.answers[1.0] > 50)
        ray_cluster.cluster.remove_node(node, allow_graceful=False)
        wait_until(lambda: ray_cluster.num_replicas("m") == everywhere - 1)
        before = load.answers[1.0]
        wait_until(lambda: load.answers[1.0] > before + 50)
        assert load.failures == {}
        ray_cluster.add_node(1)
        wait_until(lambda: ray_cluster.num_replicas("m") == everywhere)
    assert load.failures == {}


def test_a_request_over_which_a_replica_dies_is_answered_by_another(
    ray_cluster: RayCluster, application: Apply, tmp_path: Path
) -> None:
    source = f"""
import os
from pyserving import Model, Tensor
import numpy as np

class Linear(Model):
    def predict(self, x: Tensor[np.float32, None]) -> {{{{"y": Tensor[np.float32, None]}}}}:
        try:
            os.close(os.open(f"{tmp_path}/{{{{int(x[0])}}}}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return {{{{"y": x}}}}
        os._exit(1)
"""
    write_linear(tmp_path / "m", 1, source=source)
    served = application(linear("m", tmp_path / "m", replicas=2, num_cpus=0.5))
    assert served.predict("m", 1.0) == [1.0]
    code, answer = served.rpc(PREDICT, request("m", 2.0).SerializeToString())
    assert (code, y_of(answer)) == ("OK", 2.0)
    status, body, _ = served.rest("/v1/models/m:predict", b'{"instances": [3.0]}', {"accept": "text/event-stream"})
    assert (status, b"3.0" in body) == (200, True), body
    streamed = served.stream(
        "/tensorflow.serving.PredictionService/PredictStreamed", request("m", 4.0).SerializeToString()
    )
    assert [code for code, _ in streamed] == ["OK"]


def test_versions_go_on_being_in_step_when_the_barrier_dies(application: Apply, tmp_path: Path) -> None:
    import ray

    base = tmp_path / "m"
    write_linear(base, 1)
    served = application(linear("m", base, replicas=2, num_cpus=0.5))
    with Load(served, "m") as load:
        wait_until(lambda: load.answers[1.0] > 20)
        named = ray.util.list_named_actors(all_namespaces=True)
        (barriers,) = (actor["name"] for actor in named if "#barriers#" in actor["name"])
        ray.kill(ray.get_actor(barriers, namespace="serve"))
        write_linear(base, 2)
        wait_until(lambda: served.states("m").get(2) == "AVAILABLE")
        told = {served.rest("/v1/models/m/versions/2:predict", b'{"instances": [0]}')[0] for _ in range(30)}
    assert told == {200}
    assert load.failures == {}


def test_a_model_is_deployed_anew_from_another_folder(application: Apply, tmp_path: Path) -> None:
    write_linear(tmp_path / "old", 1)
    write_linear(tmp_path / "new", 5)
    application(linear("m", tmp_path / "old", replicas=2, num_cpus=0.5))
    served = application(linear("m", tmp_path / "new", replicas=2, num_cpus=0.5))
    assert {served.predict("m", 0.0)[0] for _ in range(20)} == {5.0}


def test_a_node_that_dies_during_a_swap_does_not_hold_it_up(
    ray_cluster: RayCluster, application: Apply, tmp_path: Path
) -> None:
    base = tmp_path / "m"
    write_linear(base, 1)
    node = ray_cluster.add_node(9)
    served = application(linear("m", base, replicas=2, num_cpus=5))  # one on each node
    marks = tmp_path / "marks"
    marks.mkdir()
    source = f"""
import os, time
open(os.path.join({str(marks)!r}, str(os.getpid())), "w").close()
time.sleep(4)
from pyserving import Model, Tensor
import numpy as np

class Linear(Model):
    def predict(self, x: Tensor[np.float32, None]) -> {{{{"y": Tensor[np.float32, None]}}}}:
        return {{{{"y": x + 2}}}}
"""
    with Load(served, "m") as load:
        write_linear(base, 2, source=source)
        wait_until(lambda: len(list(marks.iterdir())) == 2)  # both load it
        ray_cluster.cluster.remove_node(node, allow_graceful=False)
        wait_until(lambda: load.answers[2.0] > 10)
        assert set(served.predict("m", 0.0)) == {2.0}
        # In the place of the replica that died comes one with the new version alone.
        ray_cluster.add_node(5)
        wait_until(lambda: ray_cluster.num_replicas("m") == 2)
        wait_until(lambda: served.states("m").get(2) == "AVAILABLE")
        assert {served.predict("m", 0.0)[0] for _ in range(20)} == {2.0}
    assert load.failures == {}


def test_a_model_that_fits_on_no_node_is_refused(ray_cluster: RayCluster, tmp_path: Path) -> None:
    write_linear(tmp_path / "big", 1)
    with pytest.raises(ServingError) as refused:
        ray_cluster.run(linear("big", tmp_path / "big", num_cpus=64, num_gpus=2))
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert "model big: it asks for 64 CPUs, 2 GPUs; the nodes have: " in refused.value.message
    assert "8 CPUs, 0 GPUs" in refused.value.message


def test_a_model_that_does_not_load_says_why(ray_cluster: RayCluster, application: Apply, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServingError, match="No version of model empty is found under") as refused:
        application(linear("empty", tmp_path / "empty"))
    assert refused.value.code is Code.UNAVAILABLE


def test_replicas_come_and_go_with_the_requests_that_wait(
    ray_cluster: RayCluster, application: Apply, tmp_path: Path
) -> None:
    write_linear(tmp_path / "m", 1, seconds=0.05)
    model = linear(
        "m",
        tmp_path / "m",
        num_cpus=0.5,
        min_replicas=1,
        max_replicas=3,
        target_ongoing_requests=1,
        upscale_delay=1,
        downscale_delay=1,
    )
    served = application(model)
    assert ray_cluster.num_replicas("m") == 1
    with Load(served, "m", clients=6) as load:
        wait_until(lambda: ray_cluster.num_replicas("m") == 3)
    wait_until(lambda: ray_cluster.num_replicas("m") == 1)
    assert served.predict("m", 0.0) == [1.0]
    assert load.failures == {}


def test_the_builder_makes_the_application_of_a_command_line(ray_cluster: RayCluster, tmp_path: Path) -> None:
    from ray import serve

    from pyserving.ray import build

    write_linear(tmp_path / "m", 1)
    with contextlib.closing(_Running(serve, tmp_path, build)):
        assert ray_cluster.served.predict("m", 1.0) == [3.0]


class _Running:
    def __init__(self, serve: Any, folder: Path, build: Any) -> None:
        self._serve = serve
        serve.run(build({"model_name": "m", "model_base_path": str(folder / "m"), "python_models": "on"}), name="built")

    def close(self) -> None:
        self._serve.delete("built")
