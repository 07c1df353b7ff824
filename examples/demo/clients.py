"""Clients as the tutorials have them: requests and json for REST, tensorflow-serving-api stubs for gRPC.

The stubs are those that TensorFlow Serving's users have; they bring in the whole of TensorFlow.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import grpc
import numpy as np
import requests
from digits import Digits
from tensorflow import make_ndarray, make_tensor_proto
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


@dataclass(frozen=True, slots=True)
class Answer:
    scores: np.ndarray
    """[n, 10] float32: for each image the probability of each digit."""
    version: int
    """Of the model that answered; 0 where the protocol does not say."""


class RestClient:
    def __init__(self, port: int) -> None:
        self._url = f"http://localhost:{port}/v1/models"
        self._session = requests.Session()

    def half_plus_two(self, values: list[float]) -> list[float]:
        return self._predict("half_plus_two", {"instances": values})

    def digits(self, images: np.ndarray) -> Answer:
        return Answer(np.array(self._predict("digits", {"instances": images.tolist()}), np.float32), 0)

    def _predict(self, model: str, body: dict[str, object]) -> list[float]:
        answer = self._session.post(f"{self._url}/{model}:predict", json=body, timeout=10)
        answer.raise_for_status()
        predictions: list[float] = answer.json()["predictions"]
        return predictions


class GrpcClient:
    def __init__(self, port: int) -> None:
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(f"localhost:{port}"))

    def half_plus_two(self, values: list[float]) -> list[float]:
        response = self._predict("half_plus_two", "x", np.array(values, np.float32))
        result: list[float] = make_ndarray(response.outputs["y"]).tolist()
        return result

    def digits(self, images: np.ndarray) -> Answer:
        response = self._predict("digits", "image", images)
        return Answer(make_ndarray(response.outputs["output_0"]), response.model_spec.version.value)

    def _predict(self, model: str, name: str, values: np.ndarray) -> predict_pb2.PredictResponse:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.inputs[name].CopyFrom(make_tensor_proto(values))
        return self._stub.Predict(request, timeout=10)


def error_rate(client: RestClient | GrpcClient, test: Digits) -> float:
    """The share of images that are taken for another digit, as the well-known mnist client counts: one a request."""
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(client.digits, [test.images[i : i + 1] for i in range(len(test.images))])
        found = [int(answer.scores.argmax()) for answer in answers]
    return float(np.mean(np.array(found) != test.labels))
