"""Clients that ask one server, or a proxy before several, without a pause, and count what came of it."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection

import grpc
from client_threads import ClientThreads

from pyserving.protos import messages

WAIT = 60.0
DOUBLE = """
import numpy as np
from pyserving import Model, Tensor

class Double(Model):
    def predict(self, x: Tensor[np.float32]) -> Tensor[np.float32]:
        return 2 * x
"""
"""The model.py of the model `double` that they ask; it takes no time."""


class SteadyClients(ClientThreads):
    """Half by REST, half by gRPC, and none tries anything twice. Each keeps its connection, or makes another one after
    ``per_connection`` requests."""

    def __init__(self, rest: int, grpc_port: int, number: int, *, per_connection: int | None = None) -> None:
        self.outcomes: Counter[str] = Counter()
        """How often each came, by protocol and code."""
        self._rest, self._grpc = rest, grpc_port
        self._per_connection = per_connection
        self._counted = threading.Condition()
        runs = [self._ask_rest, self._ask_grpc]
        super().__init__(partial(self._run, runs[i % 2]) for i in range(number))

    def wait_for_more(self, number: int) -> None:
        """Until so many more requests have ended."""
        with self._counted:
            wanted = self.outcomes.total() + number
            assert self._counted.wait_for(lambda: self.outcomes.total() >= wanted, WAIT), self.outcomes

    def _run(self, ask: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            ask()

    def _goes_on(self, asked: int) -> bool:
        """Whether to ask over the same connection again."""
        return not self._stopped.is_set() and asked != self._per_connection

    def _count(self, outcome: str) -> None:
        with self._counted:
            self.outcomes[outcome] += 1
            self._counted.notify_all()

    def _ask_rest(self) -> None:
        """Over one connection, until it breaks."""
        connection = HTTPConnection("127.0.0.1", self._rest, timeout=WAIT)
        body = json.dumps({"inputs": 21.0})
        asked = 0
        try:
            while self._goes_on(asked):
                asked += 1
                connection.request("POST", "/v1/models/double:predict", body)
                answer = connection.getresponse()
                text = answer.read()
                right = answer.status != 200 or json.loads(text) == {"outputs": 42.0}
                self._count(f"REST {answer.status}" if right else f"REST {text!r}")
        except OSError as error:
            self._count(f"REST {error!r}")
        finally:
            connection.close()

    def _ask_grpc(self) -> None:
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name="double"))
        request.inputs["x"].CopyFrom(messages.TensorProto(dtype=1, float_val=[21.0]))
        request.inputs["x"].tensor_shape.SetInParent()
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        asked = 0
        with grpc.insecure_channel(f"127.0.0.1:{self._grpc}", options) as channel:
            predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            while self._goes_on(asked):
                asked += 1
                try:
                    answer = messages.PredictResponse.FromString(predict(request.SerializeToString(), timeout=WAIT))
                    (output,) = answer.outputs.values()
                    self._count("gRPC OK" if list(output.float_val) == [42.0] else f"gRPC {output}")
                except grpc.RpcError as error:
                    self._count(f"gRPC {error.code().name} {error.details()}")
