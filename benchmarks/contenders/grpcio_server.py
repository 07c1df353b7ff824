"""What one would write with grpcio: its server, on threads, with the same engine and the same messages.

python -m benchmarks.contenders.grpcio_server PORT MODELS_FOLDER NAME...
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from benchmarks.engine_alone import runs_inline
from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.protos import messages
from pyserving.wire.tensor_proto import read_tensor, write_tensor

_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Predict(grpc.GenericRpcHandler):
    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._models = {name: TensorFlowModel(str(folder / name / "1"), SessionOptions()) for name in names}
        self._inline: dict[str, bool] = {}

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            self._predict, messages.PredictRequest.FromString, messages.PredictResponse.SerializeToString
        )

    def _predict(self, request: messages.PredictRequest, _: grpc.ServicerContext) -> messages.PredictResponse:
        name = request.model_spec.name
        model = self._models[name]
        signature = model.signatures["serving_default"]
        inputs = {alias: read_tensor(request.inputs[alias], alias) for alias in signature.inputs}
        outputs = list(signature.outputs)
        if name not in self._inline:
            self._inline[name] = runs_inline(lambda: model.run(signature, inputs, outputs, inline=True))
        response = messages.PredictResponse()
        for output, array in zip(
            outputs, model.run(signature, inputs, outputs, inline=self._inline[name]), strict=True
        ):
            response.outputs[output].ParseFromString(write_tensor(array))
        return response


if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(8), options=_UNLIMITED)
    server.add_generic_rpc_handlers((Predict(Path(sys.argv[2]), sys.argv[3:]),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()
