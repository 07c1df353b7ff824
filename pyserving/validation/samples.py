"""Recorded requests and their answers: TFRecord files of ``PredictionLog``s, as request logs and warmup files are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from pyserving.core.errors import Code, ServingError, invalid_argument
from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.sources.os_errors import serving_error
from pyserving.wire.tensor_proto import read_tensor
from pyserving.wire.tfrecord import read_records


class Method(Enum):
    """The methods of PredictionService; the value is the field of PredictionLog that holds one's requests."""

    PREDICT = "predict_log"
    PREDICT_STREAMED = "predict_streamed_log"
    CLASSIFY = "classify_log"
    REGRESS = "regress_log"
    MULTI_INFERENCE = "multi_inference_log"

    @property
    def rpc(self) -> str:
        """As in the path of a call: ``MultiInference``."""
        return "".join(word.capitalize() for word in self.name.split("_"))


_REQUESTS: dict[Method, Any] = {
    Method.PREDICT: messages.PredictRequest,
    Method.PREDICT_STREAMED: messages.PredictRequest,
    Method.CLASSIFY: messages.ClassificationRequest,
    Method.REGRESS: messages.RegressionRequest,
    Method.MULTI_INFERENCE: messages.MultiInferenceRequest,
}
_RESPONSES: dict[Method, Any] = {
    Method.PREDICT: messages.PredictResponse,
    Method.PREDICT_STREAMED: messages.PredictResponse,
    Method.CLASSIFY: messages.ClassificationResponse,
    Method.REGRESS: messages.RegressionResponse,
    Method.MULTI_INFERENCE: messages.MultiInferenceResponse,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, and how it was answered when it was recorded."""

    number: int
    """Of its record in the file, from 1."""
    method: Method
    request: Any
    """A PredictRequest, ClassificationRequest, ..."""
    response: dict[str, Array]
    """See ``answer_arrays``; empty where none was recorded."""
    recorded_at: int
    """Seconds since the epoch; 0: not known."""

    @property
    def model_spec(self) -> messages.ModelSpec:
        """Of a MultiInference, that of its first task."""
        if self.method is Method.MULTI_INFERENCE:
            return self.request.tasks[0].model_spec if self.request.tasks else messages.ModelSpec()
        spec: messages.ModelSpec = self.request.model_spec
        return spec

    @property
    def model_name(self) -> str:
        return self.model_spec.name

    @property
    def signature_name(self) -> str:
        """Empty where the request names none, and of a MultiInference."""
        return "" if self.method is Method.MULTI_INFERENCE else self.model_spec.signature_name


def read_logs(path: str, what: str, most: int | None = None) -> Iterator[messages.PredictionLog]:
    """The records of a file, one at a time. ``what`` it holds is said in errors: ``warmup``.

    Raises ServingError: INVALID_ARGUMENT for a record that is no PredictionLog, and for more than ``most``; DATA_LOSS
    for a file that is damaged. Texts are the real server's.
    """
    try:
        with open(path, "rb") as file:
            for number, record in enumerate(read_records(file), 1):
                if most is not None and number > most:
                    raise invalid_argument(f"Number of {what} records exceeds the maximum ({most}) at {path}")
                try:
                    log = messages.PredictionLog.FromString(record)
                except DecodeError:
                    raise invalid_argument(
                        f"Failed to parse {what} record: record {number}, {len(record)} bytes, from {path}"
                    ) from None
                yield log
    except OSError as error:
        raise serving_error(path, error) from None
    except ServingError as error:
        if error.code is Code.DATA_LOSS:
            message = f"{path}: {error.message}. Please verify your {what} data is in TFRecord format."
            raise ServingError(error.code, message) from None
        raise


def read_samples(path: str, what: str, most: int | None = None) -> Iterator[Sample]:
    """The requests in a file of PredictionLogs; other records are left out. Raises ServingError, see ``read_logs``."""
    for number, log in enumerate(read_logs(path, what, most), 1):
        kind = log.WhichOneof("log_type")
        if kind is None or kind not in _METHODS:
            continue
        method = _METHODS[kind]
        recorded = getattr(log, kind)
        if method is Method.PREDICT_STREAMED:
            if len(recorded.request) != 1:
                continue
            request, responses = recorded.request[0], list(recorded.response)
        else:
            request, responses = recorded.request, [recorded.response] if recorded.HasField("response") else []
        answer = answer_arrays(method, responses) if responses else {}
        yield Sample(number, method, request, answer, log.log_metadata.timestamp_secs)


def parse_request(method: Method, data: bytes) -> Any:
    """The message that ``data`` is."""
    return _REQUESTS[method].FromString(data)


def parse_answer(method: Method, responses: Sequence[bytes]) -> dict[str, Array]:
    """The same from serialized messages. Raises ServingError."""
    return answer_arrays(method, [_RESPONSES[method].FromString(response) for response in responses])


def answer_arrays(method: Method, responses: Sequence[Any]) -> dict[str, Array]:
    """What can be compared of an answer, by name; more than one response only where pieces are streamed.

    Outputs have their own names, those of a piece behind its number: ``0/y``. Of classifications come their labels and
    scores, and how many each example has; of regressions their values; of several tasks all of that, behind the number
    of the task. Raises ServingError for a tensor that cannot be read.
    """
    match method:
        case Method.PREDICT:
            (response,) = responses
            return {name: read_tensor(proto, name) for name, proto in response.outputs.items()}
        case Method.PREDICT_STREAMED:
            return {
                f"{number}/{name}": read_tensor(proto, name)
                for number, response in enumerate(responses)
                for name, proto in response.outputs.items()
            }
        case Method.CLASSIFY:
            return _classes(responses[0].result)
        case Method.REGRESS:
            return _values(responses[0].result)
        case Method.MULTI_INFERENCE:
            arrays = {}
            for number, result in enumerate(responses[0].results):
                if result.HasField("regression_result"):
                    named = _values(result.regression_result)
                else:
                    named = _classes(result.classification_result)
                arrays.update({f"{number}/{name}": array for name, array in named.items()})
            return arrays


_METHODS = {method.value: method for method in Method}


def class_arrays(rows: Sequence[Sequence[Any]]) -> dict[str, Array]:
    """Of each example its classes, which have a ``label`` (text) and a ``score``."""
    listed = [one for row in rows for one in row]
    labels = np.empty(len(listed), object)
    labels[:] = [one.label.encode() for one in listed]
    return {
        "number of classes": np.array([len(row) for row in rows], np.int64),
        "labels": labels,
        "scores": np.array([one.score for one in listed], np.float32),
    }


def _classes(result: messages.ClassificationResult) -> dict[str, Array]:
    return class_arrays([row.classes for row in result.classifications])


def _values(result: messages.RegressionResult) -> dict[str, Array]:
    return {"values": np.array([regression.value for regression in result.regressions], np.float32)}
