"""What one would write with grpcio: its server, on threads, with the same engine and the same messages.

python -m benchmarks.grpcio_server PORT MODEL_FOLDER
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from pyserving.platforms.tensorflow.model import TensorFlowModel
from pyserving.platforms.tensorflow.session_config import SessionOptions
from pyserving.protos import messages


class Predict(grpc.GenericRpcHandler):
    def __init__(self, folder: str) -> None:
        self._model = TensorFlowModel(folder, SessionOptions())
        self._signature = self._model.signatures["serving_default"]

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            self._predict, messages.PredictRequest.FromString, messages.PredictResponse.SerializeToString
        )

    def _predict(self, request: messages.PredictRequest, _: grpc.ServicerContext) -> messages.PredictResponse:
        inputs = {"x": np.array(request.inputs["x"].float_val, np.float32)}
        (y,) = self._model.run(self._signature, inputs, ["y"], inline=True)
        response = messages.PredictResponse()
        response.outputs["y"].dtype = 1
        response.outputs["y"].tensor_shape.dim.add(size=len(y))
        response.outputs["y"].float_val.extend(y.tolist())
        response.model_spec.name = request.model_spec.name
        return response


if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Predict(sys.argv[2]),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()
