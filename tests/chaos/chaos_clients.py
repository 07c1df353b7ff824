"""Clients that ask without a pause while something breaks, and remember what they got and when."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Self

import grpc
import numpy as np
from client_threads import ClientThreads
from serving import Serving

from pyserving.protos import messages

WAIT = 30.0
ANSWER_SECONDS = 10.0
"""Nothing takes so long: a request without an answer by then was lost silently."""
OK = "OK"


@dataclass(frozen=True, slots=True)
class Outcome:
    asked: float
    answered: float
    model: str
    code: str
    """Of gRPC and of REST alike: OK, the status, or ``connection lost``, ``no answer``, ``wrong answer``."""


class Clients(ClientThreads):
    """A REST and a gRPC client for each of these models, which answer ``x / 2 + 2``."""

    def __init__(self, server: Serving, *models: str, number: int = 2) -> None:
        self.outcomes: list[Outcome] = []
        self._server = server
        self._broken_at = 0.0
        runs = [partial(run, model) for model in models for run in (self._run_rest, self._run_grpc)]
        super().__init__(runs * number)

    def __enter__(self) -> Self:
        super().__enter__()
        self.wait_for(200)
        return self

    def stop(self) -> None:
        """To be called before a server ends that was started within: the end is no failure."""
        super().stop()

    def broken(self) -> None:
        """Something breaks now."""
        self._broken_at = time.monotonic()

    def wait_for(self, answers: int, model: str | None = None) -> None:
        """Returns when so many requests that are asked from now on were answered well."""
        since = time.monotonic()
        while (
            sum(one.asked >= since and one.code == OK and model in (None, one.model) for one in self.recent()) < answers
        ):
            assert time.monotonic() < since + WAIT, f"no {answers} good answers: {self.codes()}"
            time.sleep(0.02)

    def recent(self) -> list[Outcome]:
        return self.outcomes[-20_000:]

    def codes(self, *models: str) -> Counter[str]:
        return Counter(one.code for one in self.outcomes if not models or one.model in models)

    def seen(self) -> str:
        return ", ".join(f"{number:,} {code}" for code, number in self.codes().most_common())

    def recovery(self) -> str:
        """From the fault to the last request that failed."""
        failed = [one.answered for one in self.outcomes if one.code != OK]
        return f"{max(failed) - self._broken_at:.2f} s" if failed else "no failure"

    def _note(self, model: str, asked: float, code: str) -> None:
        self.outcomes.append(Outcome(asked, time.monotonic(), model, code))

    def _run_rest(self, model: str) -> None:
        body = json.dumps({"inputs": {"x": [1.0, 2.0]}})
        connection = HTTPConnection("127.0.0.1", self._server.rest, timeout=ANSWER_SECONDS)
        while not self._stopped.is_set():
            asked = time.monotonic()
            try:
                connection.request("POST", f"/v1/models/{model}:predict", body)
                answer = connection.getresponse()
                text = answer.read()
                code = f"REST {answer.status}"
                if answer.status == 200:
                    outputs = json.loads(text)["outputs"]
                    values = outputs["y"] if isinstance(outputs, dict) else outputs
                    code = OK if values == [2.5, 3.0] else f"wrong answer {text!r}"
            except TimeoutError:
                code = "no answer"
                connection.close()
            except (OSError, HTTPException):
                code = "connection lost"
                connection.close()
            self._note(model, asked, code)
            if code != OK:
                self._stopped.wait(0.005)  # as a client that does not want to flood who is in trouble
        connection.close()

    def _run_grpc(self, model: str) -> None:
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name=model))
        request.inputs["x"].CopyFrom(
            messages.TensorProto(dtype=1, tensor_content=np.array([1.0, 2.0], np.float32).tobytes())
        )
        request.inputs["x"].tensor_shape.dim.add(size=2)
        data = request.SerializeToString()
        options: Sequence[tuple[str, int]] = [
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc}", options) as channel:
            predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            while not self._stopped.is_set():
                asked = time.monotonic()
                try:
                    answer = messages.PredictResponse.FromString(predict(data, timeout=ANSWER_SECONDS))
                    (output,) = answer.outputs.values()
                    code = OK if list(output.float_val) == [2.5, 3.0] else "wrong answer"
                except grpc.RpcError as error:
                    late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                    code = "no answer" if late else f"gRPC {error.code().name}"
                self._note(model, asked, code)
                if code != OK:
                    self._stopped.wait(0.005)
