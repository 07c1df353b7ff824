"""One request before the load: only who answers right is measured."""

import http.client
import json
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.contenders import Contender
from benchmarks.workloads import Array, Workload
from pyserving.protos import messages
from pyserving.wire.tensor_proto import read_tensor

METHOD = "tensorflow.serving.PredictionService/Predict"
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class WrongAnswerError(Exception):
    """What came in place of the right answer; one line."""


def expected(models: Path, workload: Workload) -> Array:
    """TensorFlow's own answer, stored when the model was built."""
    with np.load(models / workload.model / "answers.npz") as answers:
        stored: Array = answers[workload.name]
        return stored


def check(contender: Contender, port: int, workload: Workload, right: Array, patience: float) -> int:
    """Asks until there is an answer, for ``patience`` seconds at most; gives its length, or its message's.

    Raises WrongAnswerError if none comes, or if its values differ from ``right`` by more than float32's rounding in
    another order of sums does.
    """
    end = time.monotonic() + patience
    while True:
        try:
            answer = ask(contender, port, workload)
            break
        except WrongAnswerError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    if not contender.is_floor:
        try:
            values = _values_grpc(answer) if workload.transport == "grpc" else contender.predictions(json.loads(answer))
            compare(values, right)
        except (LookupError, TypeError, ValueError) as error:
            raise WrongAnswerError(f"unreadable answer {answer[:100]!r}: {error}") from error
    return len(answer)


def ask(contender: Contender, port: int, workload: Workload) -> bytes:
    """One request and its answer: a body of JSON or a message. Raises WrongAnswerError if none comes, or an error."""
    try:
        return (_ask_grpc if workload.transport == "grpc" else _ask_rest)(contender, port, workload)
    except (OSError, http.client.HTTPException, _RefusedError) as error:
        raise WrongAnswerError(f"no answer: {error}") from error


def compare(values: Any, right: Array) -> None:
    """Raises WrongAnswerError or ValueError if they differ."""
    if right.dtype.kind == "S":
        got = [value if isinstance(value, bytes) else value.encode() for value in values]
        if got != right.tolist():
            raise WrongAnswerError(f"expected {right.tolist()}, got {got}"[:300])
        return
    array = np.asarray(values, np.float32)
    if array.shape != right.shape:
        raise WrongAnswerError(f"expected shape {right.shape}, got {array.shape}")
    if not np.allclose(array, right, rtol=1e-3, atol=1e-4 * float(np.abs(right).max())):
        raise WrongAnswerError(f"expected {right.ravel()[:3]}..., got {array.ravel()[:3]}...")


class _RefusedError(Exception):
    """Answered by an error, as some servers do that are not ready."""


def _ask_rest(contender: Contender, port: int, workload: Workload) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(
            "POST", contender.path(workload), contender.body(workload), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise _RefusedError(f"status {response.status}: {answer[:200].decode(errors='replace')}")
    return answer


def _ask_grpc(_: Contender, port: int, workload: Workload) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_UNLIMITED) as channel:
        try:
            answer: bytes = channel.unary_unary(f"/{METHOD}")(workload.message, timeout=120)
        except grpc.RpcError as error:
            raise _RefusedError(f"{error.code().name}: {error.details()}"[:300]) from error
        return answer


def _values_grpc(answer: bytes) -> Any:
    (output,) = messages.PredictResponse.FromString(answer).outputs.values()
    values = read_tensor(output, "output")
    return values.tolist() if values.dtype == object else values
