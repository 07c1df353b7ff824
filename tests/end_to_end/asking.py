"""Asks a server over REST and over gRPC, with arrays in and out."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import numpy as np
from serving import Serving

from pyserving.platforms.model import Array
from pyserving.protos import messages
from pyserving.wire.tensor_proto import read_tensor, write_tensor

Ask = Callable[..., dict[str, Array]]


def ask_rest(server: Serving, name: str, inputs: Mapping[str, Array], signature: str = "") -> dict[str, Array]:
    """All outputs by name. JSON does not tell dtypes: they come as numpy makes them."""
    body = {"inputs": {alias: array.tolist() for alias, array in inputs.items()}}
    status, answer = server.post_json(
        f"/v1/models/{name}:predict", body | ({"signature_name": signature} if signature else {})
    )
    assert status == 200, answer
    outputs: Any = answer["outputs"]
    if not isinstance(outputs, dict):  # a single output comes without its name
        shown = server.get(f"/v1/models/{name}/metadata")[1]["metadata"]["signature_def"]["signature_def"]
        (alias,) = shown[signature or "serving_default"]["outputs"]
        outputs = {alias: outputs}
    return {alias: np.array(value) for alias, value in outputs.items()}


def ask_grpc(server: Serving, name: str, inputs: Mapping[str, Array], signature: str = "") -> dict[str, Array]:
    """All outputs by name, with the dtypes of the model."""
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name=name, signature_name=signature))
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(messages.TensorProto.FromString(write_tensor(np.asarray(array, order="C"))))
    answer = call(server, "Predict", request, messages.PredictResponse)
    return {alias: read_tensor(proto, alias) for alias, proto in answer.outputs.items()}


def call(server: Serving, method: str, request: Any, answer: Any) -> Any:
    options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}", options) as channel:
        stub = channel.unary_unary(
            f"/tensorflow.serving.PredictionService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return stub(request, timeout=60)
