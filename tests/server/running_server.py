"""A whole server in this process, on real sockets, and clients for it."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from pyserving.core.servable import ServableRequest
from pyserving.core.state import ServableState, State
from pyserving.protos import messages
from pyserving.server.server import Server
from pyserving.server.settings import Settings
from pyserving.sources.model_config import ModelConfig
from pyserving.transport.loop import new_event_loop

T = TypeVar("T")

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"


class RunningServer:
    """Serves ``models`` on a thread until stop(). Loads are not retried."""

    def __init__(self, models: Sequence[ModelConfig], **settings: Any) -> None:
        self._loop = new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        options = {
            "host": "127.0.0.1",
            "grpc_port": 0,
            "rest_port": 0,
            "max_num_load_retries": 0,
            "poll_wait": 0.02,
        } | settings
        self.server: Server = self.on_loop(self._start(Settings(models=models, **options)))
        self.channel = grpc.insecure_channel(self.server.ports.grpc_addresses[0])

    async def _start(self, settings: Settings) -> Server:
        server = Server(settings)
        await server.start()
        return server

    def on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(60)

    def settled(self, name: str, version: int | None = None) -> ServableState:
        """Waits until a version is available or has failed."""
        (state,) = self.server.directory.monitor.wait_until_available([ServableRequest(name, version)], timeout=60)
        assert state.state in (State.AVAILABLE, State.END)
        return state

    def post(self, path: str, body: object) -> Any:
        """The JSON answer to a REST request that succeeds."""
        return json.loads(self._fetch(f"/v1/models/{path}", json.dumps(body).encode()))

    def metrics(self) -> dict[str, float]:
        """The values by name and labels, as the page for Prometheus shows them."""
        lines = self._fetch("/monitoring/prometheus/metrics", None).decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def _fetch(self, path: str, body: bytes | None) -> bytes:
        request = urllib.request.Request(f"http://{self.server.ports.rest_address}{path}", body)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from None

    def call(self, method: str, request: Message, kind: type[Message]) -> Any:
        return self.channel.unary_unary(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )(request, timeout=60)

    def streamed(self, request: messages.PredictRequest) -> Any:
        """The PredictResponses of PredictStreamed, as they come; may be cancelled."""
        return self.channel.unary_stream(
            PREDICTION + "PredictStreamed",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.PredictResponse.FromString,
        )(request, timeout=60)

    def reload(self, models: Sequence[messages.ModelConfig]) -> None:
        request = messages.ReloadConfigRequest()
        request.config.model_config_list.config.extend(models)
        request.config.model_config_list.SetInParent()
        answer = self.call(MODEL + "HandleReloadConfigRequest", request, messages.ReloadConfigResponse)
        assert answer.status.error_code == 0, answer

    def stop(self) -> None:
        """May be called twice."""
        if self._loop.is_closed():
            return
        self.channel.close()
        self.on_loop(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


def tensor(*values: float | bytes, dtype: str = "DT_FLOAT", shape: Sequence[int] | None = None) -> messages.TensorProto:
    """By default a vector of all values."""
    proto = messages.TensorProto(dtype=messages.DataType.Value(dtype))
    for size in (len(values),) if shape is None else shape:
        proto.tensor_shape.dim.add(size=size)
    field = {"DT_FLOAT": "float_val", "DT_INT64": "int64_val", "DT_STRING": "string_val"}[dtype]
    getattr(proto, field).extend(values)
    return proto


def predict_request(name: str, signature: str = "", **inputs: messages.TensorProto) -> messages.PredictRequest:
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=name, signature_name=signature))
    for alias, proto in inputs.items():
        request.inputs[alias].CopyFrom(proto)
    return request


def example(**features: float) -> messages.Example:
    made = messages.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def examples(*listed: messages.Example) -> messages.Input:
    return messages.Input(example_list=messages.ExampleList(examples=listed))


def only_file(folder: Path) -> Path:
    """The one file there is."""
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    return file
