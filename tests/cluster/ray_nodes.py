"""A Ray cluster of several nodes on this machine, and applications on it."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import grpc

from pyserving.platforms.python.options import PythonModels, PythonOptions
from pyserving.protos import messages
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
SETTINGS = Settings([], python_options=PythonOptions(PythonModels.ON), poll_wait=0.1, max_num_load_retries=0)


def linear(name: str, base: Any, **ray: float) -> ModelConfig:
    """A model in Python whose replicas are as ``ray`` says."""
    options = messages.ModelOptions(ray=messages.RayOptions(**{"num_cpus": 1, **ray}))
    return ModelConfig(name, str(base), options=options)


class Served:
    """Clients of both ports of one machine."""

    def __init__(self, rest_port: int, grpc_port: int) -> None:
        self.rest_port = rest_port
        self.channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")

    def rest(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, str]:
        """Status, body and content type; POST if there is a body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.rest_port}{path}", body, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read(), answer.headers["content-type"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers["content-type"]

    def rpc(self, method: str, data: bytes, metadata: Sequence[tuple[str, str]] = ()) -> tuple[str, bytes]:
        """The name of the status, and the answer or the error's text."""
        try:
            return "OK", self.channel.unary_unary(method)(data, timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name, error.details().encode()

    def stream(self, method: str, data: bytes) -> list[tuple[str, bytes]]:
        """What ``rpc`` would return for each answer, and for the failure that may end them."""
        answers: list[tuple[str, bytes]] = []
        try:
            for answer in self.channel.unary_stream(method)(data, timeout=60):
                answers.append(("OK", answer))
        except grpc.RpcError as error:
            answers.append((error.code().name, error.details().encode()))
        return answers

    def predict(self, name: str, *x: float) -> list[float]:
        status, body, _ = self.rest(f"/v1/models/{name}:predict", json.dumps({"instances": x}).encode())
        assert status == 200, body
        predictions: list[float] = json.loads(body)["predictions"]
        return predictions

    def states(self, name: str) -> dict[int, str]:
        """Of the model's versions."""
        status, body, _ = self.rest(f"/v1/models/{name}")
        assert status == 200, body
        return {int(each["version"]): each["state"] for each in json.loads(body)["model_version_status"]}


class RayCluster:
    """A head, where the ingress is, and nodes that come and go."""

    def __init__(self, rest_port: int, grpc_port: int) -> None:
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster
        from ray.serve.config import HTTPOptions, gRPCOptions

        small = {"object_store_memory": 80_000_000, "include_dashboard": False}
        head = {"num_cpus": 1, "resources": {"stays": 100}, **small}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self._small = {"object_store_memory": 80_000_000}
        ray.init(address=self.cluster.address, log_to_driver=False)
        serve.start(
            proxy_location="HeadOnly",  # all nodes have one address, and a port is for one of them
            http_options=HTTPOptions(host="127.0.0.1", port=rest_port),
            grpc_options=gRPCOptions(port=grpc_port, grpc_servicer_functions=["pyserving.ray:add_services"]),
        )
        self.served = Served(rest_port, grpc_port)

    def add_node(self, cpus: float, **resources: float) -> Any:
        return self.cluster.add_node(num_cpus=cpus, resources=resources, **self._small)

    def num_cpus(self) -> int:
        """Of all nodes."""
        import ray

        return int(ray.cluster_resources()["CPU"])

    def run(self, *models: ModelConfig, settings: Settings = SETTINGS, **options: Any) -> Served:
        """Serves exactly these models."""
        from pyserving.ray import run

        run(models, settings, ingress_resources={"stays": 1}, **options)
        return self.served

    def num_replicas(self, model: str) -> int:
        """Those that run and take requests."""
        from ray import serve

        from pyserving.ray.options import deployment_name

        status = serve.status().applications["pyserving"].deployments[deployment_name(model)]
        return status.replica_states.get("RUNNING", 0)

    def delete(self) -> None:
        from ray import serve

        serve.delete("pyserving")

    def stop(self) -> None:
        import ray
        from ray import serve

        self.served.channel.close()
        serve.shutdown()
        ray.shutdown()
        self.cluster.shutdown()
